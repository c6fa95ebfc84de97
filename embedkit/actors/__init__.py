"""What runs inside Ray: encoders, queues of splits, workers. Only this and engines import Ray."""
