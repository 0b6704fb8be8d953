//! Record batches (v2).
