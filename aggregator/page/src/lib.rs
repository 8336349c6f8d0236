//! The web page for operators. Pure: documents of [`aggregator_view`] go in, HTML comes out.
