"""A model on a cluster: programs of ranks, the plan in a folder, the engines that run it, the simulator."""
