//! What a sidecar said, checked and free of wire types. `aggregator-ingest` makes these from frames.
