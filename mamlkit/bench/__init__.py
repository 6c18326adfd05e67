"""How fast and how lean: the workloads, the implementations, and the program that compares them."""
