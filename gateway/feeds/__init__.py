"""Feeds: lists of names, URLs and addresses, from the file as published to what the policy looks things up in."""
