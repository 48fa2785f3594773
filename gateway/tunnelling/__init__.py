"""What leaves in DNS names: accounted for, bounded, and refused when it is a channel."""
