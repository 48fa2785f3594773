"""What commands print, by subject: from values to rows, lines and JSON."""
