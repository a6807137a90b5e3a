"""What a kernel costs on a target: measured, learned, fitted, or the roofline."""
