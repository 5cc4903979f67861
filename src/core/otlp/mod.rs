//! OTLP's wire format, worked on without decoding it whole.
