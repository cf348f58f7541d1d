"""From a checkpoint to servables, each refused unless it computes the golden outputs."""
