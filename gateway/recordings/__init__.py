"""DNS queries that somebody else has recorded: logs and packet captures."""
