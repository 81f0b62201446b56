//! Products and angles of vectors (book, Part I, 1.1).

/// The inner product; of vectors of different lengths, that of the shared part.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The Euclidean length.
pub fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The cosine of the angle between two vectors; 0 if one of them has no length.
pub fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let lengths = norm(a) * norm(b);
    if lengths == 0.0 { 0.0 } else { (dot(a, b) / lengths).clamp(-1.0, 1.0) }
}

/// `a - b`.
pub fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// The same direction with length 1; a vector without length stays as it is.
pub fn unit(a: &[f64]) -> Vec<f64> {
    let length = norm(a);
    a.iter().map(|x| if length == 0.0 { *x } else { x / length }).collect()
}
