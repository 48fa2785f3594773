"""The resolver: policy before cache, answers judged too, every name that leaves asked for by somebody allowed to."""
