//! Import of ONNX models.

pub mod proto;
