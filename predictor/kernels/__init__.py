"""From operators to kernels: fusion by rules, features, the roofline."""
