//! The body of a task on the wire: a small program in postfix form.
//!
//! `inc(add(dep0, 5))` is `dep 0 · literal 5 · call add of 2 · call inc of 1`. A task of one call and a chain of calls
//! fused into one task are the same thing, and evaluation needs no recursion.

use super::Value;
use super::call::{Fault, call};
use super::function::{Argument, CallError, Record};

const LITERAL: u8 = 0;
const DEPENDENCY: u8 = 1;
const CALL: u8 = 2;
/// A call that only gathers arguments into a list, tuple or map. It is no step of its own.
const INLINE: u8 = 3;

/// Appends the numbers of a program, seven bits a byte.
fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(n);
        }
    }
    None
}

/// Writes a literal whose encoded bytes `encode` appends; on an error nothing is written.
pub(crate) fn literal<E>(out: &mut Vec<u8>, encode: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
    let start = out.len();
    // Most literals are short: the length takes one byte, and for a longer one room is made.
    out.extend_from_slice(&[LITERAL, 0]);
    let body_at = out.len();
    encode(out).inspect_err(|_| out.truncate(start))?;
    let length = out.len() - body_at;
    if length < 0x80 {
        out[body_at - 1] = length as u8;
    } else {
        let mut bytes = Vec::with_capacity(10);
        put(&mut bytes, length as u64);
        out.splice(body_at - 1..body_at, bytes);
    }
    Ok(())
}

/// Writes the use of a dependency: its position among the task's dependencies.
pub(crate) fn dependency(out: &mut Vec<u8>, position: u32) {
    out.push(DEPENDENCY);
    put(out, u64::from(position));
}

/// Writes a call with the last `args` operands. `key` is the hash in the call's user-visible key.
pub(crate) fn call_step(out: &mut Vec<u8>, offset: u64, args: usize, key: u64) {
    out.push(CALL);
    put(out, offset);
    put(out, args as u64);
    out.extend_from_slice(&key.to_le_bytes());
}

/// Writes a call inside the task that makes one value of the last `args` operands. It has no key of its own.
pub(crate) fn inline_step(out: &mut Vec<u8>, offset: u64, args: usize) {
    out.push(INLINE);
    put(out, offset);
    put(out, args as u64);
}

/// One instruction, read back.
#[derive(Debug)]
pub(crate) enum Op<'a> {
    Literal(&'a [u8]),
    Dependency(usize),
    Call { record: &'static Record, args: usize, key: u64 },
    Inline { record: &'static Record, args: usize },
}

/// Reads the instructions of a body.
pub(crate) struct Ops<'a>(&'a [u8]);

impl<'a> Ops<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self(body)
    }

    fn read(&mut self) -> Option<Op<'a>> {
        Some(match Step::read(&mut self.0)? {
            Step::Literal(bytes) => Op::Literal(bytes),
            Step::Dependency(position) => Op::Dependency(position),
            Step::Call { offset, args, key } => Op::Call { record: Record::at(offset)?, args, key },
            Step::Inline { offset, args } => Op::Inline { record: Record::at(offset)?, args },
        })
    }
}

/// An instruction whose function has not been looked up.
enum Step<'a> {
    Literal(&'a [u8]),
    Dependency(usize),
    Call { offset: u64, args: usize, key: u64 },
    Inline { offset: u64, args: usize },
}

impl<'a> Step<'a> {
    fn read(body: &mut &'a [u8]) -> Option<Self> {
        let (&tag, rest) = body.split_first()?;
        *body = rest;
        Some(match tag {
            LITERAL => {
                let length = usize::try_from(get(body)?).ok()?;
                let (bytes, rest) = body.split_at_checked(length)?;
                *body = rest;
                Self::Literal(bytes)
            }
            DEPENDENCY => Self::Dependency(usize::try_from(get(body)?).ok()?),
            CALL | INLINE => {
                let offset = get(body)?;
                let args = usize::try_from(get(body)?).ok()?;
                if tag == INLINE {
                    return Some(Self::Inline { offset, args });
                }
                let (key, rest) = body.split_first_chunk::<8>()?;
                *body = rest;
                Self::Call { offset, args, key: u64::from_le_bytes(*key) }
            }
            _ => return None,
        })
    }
}

impl<'a> Iterator for Ops<'a> {
    type Item = Result<Op<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let op = self.read();
        if op.is_none() {
            self.0 = &[];
        }
        Some(op.ok_or(Malformed))
    }
}

/// The offset of a call's function, whichever build that is of, and its key.
type PlainCall = (u64, u64);

/// The offsets of the functions that a program calls, in order, whichever build they are of.
pub(crate) fn calls(mut body: &[u8]) -> impl Iterator<Item = u64> {
    std::iter::from_fn(move || {
        loop {
            if let Step::Call { offset, .. } = Step::read(&mut body)? {
                return Some(offset);
            }
        }
    })
}

/// The same, each with its key.
pub(crate) fn keyed_calls(mut body: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    std::iter::from_fn(move || {
        loop {
            if let Step::Call { offset, key, .. } = Step::read(&mut body)? {
                return Some((offset, key));
            }
        }
    })
}

/// The call that gives a program's result, and the one before.
pub(crate) fn last_calls(mut body: &[u8]) -> (Option<PlainCall>, Option<PlainCall>) {
    let (mut last, mut before) = (None, None);
    while let Some(step) = Step::read(&mut body) {
        if let Step::Call { offset, key, .. } = step {
            before = last.replace((offset, key));
        }
    }
    (last, before)
}

/// A body that is not a program of this build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Where in a program something went wrong: which step, and that step's function and key.
#[derive(Debug)]
pub(crate) struct StepFault {
    pub(crate) step: u32,
    pub(crate) call: Option<(&'static Record, u64)>,
    pub(crate) fault: Fault,
}

/// Runs a program. `input(i)` gives dependency `i` each time it is used; `before(record, key)` is told of each step and
/// may stop the program by answering `false` (then the answer is `Ok(None)`).
///
/// The answer is the value, and the record whose result it is.
pub(crate) fn run<'a>(
    body: &'a [u8],
    mut input: impl FnMut(usize) -> Option<Argument<'a>>,
    mut before: impl FnMut(&'static Record, u64) -> bool,
) -> Result<Option<(Value, &'static Record)>, StepFault> {
    let broken = |step: u32| StepFault {
        step,
        call: None,
        fault: Fault::Call(CallError::Decode {
            type_name: "task".to_string(),
            reason: "the body is not a program of this build".to_string(),
        }),
    };
    let mut stack: smallvec::SmallVec<[Argument<'a>; 4]> = smallvec::SmallVec::new();
    let mut step = 0;
    let mut last = None;
    for op in Ops::new(body) {
        match op.map_err(|_| broken(step))? {
            Op::Literal(bytes) => stack.push(Argument::Bytes(bytes)),
            Op::Dependency(i) => stack.push(input(i).ok_or_else(|| broken(step))?),
            Op::Call { record, args, key } => {
                let first = stack.len().checked_sub(args).ok_or_else(|| broken(step))?;
                if !before(record, key) {
                    return Ok(None);
                }
                let value = call(record, &mut stack[first..]).map_err(|fault| StepFault {
                    step,
                    call: Some((record, key)),
                    fault,
                })?;
                stack.truncate(first);
                stack.push(Argument::Value(value));
                last = Some(record);
                step += 1;
            }
            Op::Inline { record, args } => {
                let first = stack.len().checked_sub(args).ok_or_else(|| broken(step))?;
                let value = call(record, &mut stack[first..]).map_err(|fault| StepFault { step, call: None, fault })?;
                stack.truncate(first);
                stack.push(Argument::Value(value));
            }
        }
    }
    match (stack.pop(), last, stack.is_empty()) {
        (Some(Argument::Value(value)), Some(record), true) => Ok(Some((value, record))),
        _ => Err(broken(step)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::codec;
    use super::super::function::TaskFunction;
    use super::*;

    fn add(a: i64, b: i64) -> i64 {
        a + b
    }

    fn inc(a: i64) -> i64 {
        a + 1
    }

    fn offset<A, R, F: TaskFunction<A, R>>(_: F) -> u64 {
        F::RECORD.offset().expect("in the image")
    }

    fn fused() -> Vec<u8> {
        let mut body = Vec::new();
        dependency(&mut body, 0);
        literal(&mut body, |out| codec::encode(&5_i64, out, 100)).expect("encodes");
        call_step(&mut body, offset(add), 2, 1);
        call_step(&mut body, offset(inc), 1, 2);
        body
    }

    #[test]
    fn a_chain_is_evaluated() {
        let body = fused();
        let (value, record) =
            run(&body, |_| Some(Argument::Value(Value::new(10_i64))), |_, _| true).expect("runs").expect("not stopped");
        assert_eq!(value.take::<i64>(), Some(16));
        assert!(record.path().ends_with("inc"));
    }

    #[test]
    fn every_truncation_is_an_error() {
        let body = fused();
        let functions = |body: &[u8]| {
            let (last, before) = last_calls(body);
            (last.map(|(offset, _)| offset), before.map(|(offset, _)| offset))
        };
        assert_eq!(functions(&body), (Some(offset(inc)), Some(offset(add))), "the last one gives the result");
        assert_eq!([functions(&[]), functions(&[9, 9])], [(None, None); 2]);
        for n in 0..body.len() {
            assert!([None, Some(offset(add))].contains(&functions(&body[..n]).0));
            let result = run(&body[..n], |_| Some(Argument::Value(Value::new(1_i64))), |_, _| true);
            // A prefix that ends with a whole call is a program of its own.
            if let Ok(Some((_, record))) = result {
                assert!(record.path().ends_with("add"));
            }
        }
        let mut rubbish = body.clone();
        rubbish[0] = 9;
        assert!(run(&rubbish, |_| None, |_, _| true).is_err());
    }

    #[test]
    fn a_program_can_be_stopped_between_steps() {
        let body = fused();
        let mut left = 1;
        let stopped = run(
            &body,
            |_| Some(Argument::Value(Value::new(1_i64))),
            |_, _| {
                left -= 1;
                left >= 0
            },
        );
        assert!(matches!(stopped, Ok(None)));
    }
}
