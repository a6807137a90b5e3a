"""What people see: results in, a terminal table, JSON or one HTML file out."""
