//! A bound on the values that a template makes.
//!
//! `a = [a, a]` sixty times over costs sixty steps and makes a list that takes longer than the universe
//! to print; `a = a + a` does the same to memory, `a = [a]` to the stack. So each value that gets a name is
//! walked: it may have so many parts, so deep, and strings so long. Lazy sequences (slices, sums of lists,
//! mapped ones) become lists, or each would hold the chain of all it came from.

use minijinja::value::{Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};

use super::rewrite::{BOUNDED, BOUNDED_ATTRIBUTE};

/// As deep as JSON is read, and a little.
const MAX_DEPTH: usize = 160;

/// What a value may have.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// Parts of lists and mappings, all levels together.
    pub(super) parts: usize,
    /// Bytes of one string.
    pub(super) bytes: usize,
}

/// Adds the functions that the rewritten source calls.
pub(super) fn install(environment: &mut Environment<'_>, bounds: Bounds) {
    let bind = move |state: &mut State, value: Value| bound(state, value, bounds, false);
    environment.add_function(BOUNDED, bind);
    let bind = move |state: &mut State, value: Value| bound(state, value, bounds, true);
    environment.add_function(BOUNDED_ATTRIBUTE, bind);
}

fn bound(state: &mut State, value: Value, bounds: Bounds, attribute: bool) -> Result<Value, Error> {
    let mut walk = Walk { left: bounds.parts, bounds, attribute };
    let changed = walk.visit(&value, 0)?;
    // A walk over some parts is cheaper than a step of the engine.
    state.consume_fuel(((bounds.parts - walk.left) / 16) as u64)?;
    Ok(changed.unwrap_or(value))
}

struct Walk {
    left: usize,
    bounds: Bounds,
    /// A namespace in a namespace could close a circle.
    attribute: bool,
}

impl Walk {
    /// The value to put in this one's place, if any.
    fn visit(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        if let Some(text) = value.as_str()
            && text.len() > self.bounds.bytes
        {
            return Err(too_large());
        }
        match value.kind() {
            ValueKind::Seq | ValueKind::Iterable => {
                let lazy = value.kind() == ValueKind::Iterable;
                let (items, changed) = self.items(value, value.try_iter()?, depth)?;
                Ok(match (lazy || changed, value.is_tuple()) {
                    (false, _) => None,
                    (true, true) => Some(Value::from(Tuple::new(items))),
                    (true, false) => Some(Value::from(items)),
                })
            }
            ValueKind::Map => {
                let namespace = value.as_object().is_some_and(|o| o.type_name().ends_with("::Namespace"));
                if namespace && self.attribute {
                    return Err(invalid("a namespace cannot be stored in a namespace"));
                }
                let keys: Vec<Value> = self.items(value, value.try_iter()?, depth)?.0;
                let values = keys.iter().map(|key| value.get_item(key)).collect::<Result<Vec<_>, _>>()?;
                let (values, changed) = self.items(value, values.into_iter(), depth)?;
                let changed = changed && !namespace;
                Ok(changed.then(|| keys.into_iter().zip(values).collect()))
            }
            _ => Ok(None),
        }
    }

    /// The parts of a value, and whether one is not what it was.
    fn items(
        &mut self,
        whole: &Value,
        parts: impl Iterator<Item = Value>,
        depth: usize,
    ) -> Result<(Vec<Value>, bool), Error> {
        if depth >= MAX_DEPTH || whole.len().is_some_and(|len| len > self.left) {
            return Err(too_large());
        }
        let mut changed = false;
        let mut items = Vec::new();
        for part in parts {
            self.left = self.left.checked_sub(1).ok_or_else(too_large)?;
            let new = self.visit(&part, depth + 1)?;
            changed |= new.is_some();
            items.push(new.unwrap_or(part));
        }
        Ok((items, changed))
    }
}

fn too_large() -> Error {
    invalid("it makes a value that is too large or too deep")
}

fn invalid(message: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}
