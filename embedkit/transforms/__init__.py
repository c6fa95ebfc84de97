"""The flow as Beam transforms. Only this and engines import Beam."""
