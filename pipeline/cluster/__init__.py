"""Everything that knows of Ray: sessions, tasks, tree reduction, actors. The only place that imports it."""
