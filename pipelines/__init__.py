"""Jobs to run and to copy: compositions of embedkit's parts, with nothing of their own."""

# Before what a job imports: it holds back what importing Beam says of packages not needed here.
import embedkit  # noqa: F401
