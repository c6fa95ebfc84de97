"""Ways to run a job: where transforms and actors meet."""
