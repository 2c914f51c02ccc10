//! A profile in words: an indented tree with percentages, and folded stacks for flame graph tools.

use super::{Frame, Frames, NameProfile, NodeRef, Profile};
use std::cmp::Reverse;
use std::fmt::{self, Write};
use std::time::Duration;

/// What took less than this share of its name's time is shown in one line with others.
const LEAST: f64 = 0.01;
/// A stack is shown down to this depth.
const DEEPEST: usize = 60;

impl Profile {
    /// The stacks in the folded form that flame graph tools read: a line each, with the task's name, the functions from the
    /// outermost on, `;` between them, and the time in microseconds behind a blank. Waits are under `(off the CPU)`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use swath_insight::profile::{Frame, FrameOrigin, Frames, Profile};
    /// let mut profile = Profile::default();
    /// let stack = ["app::parse", "app::number"].map(|path| Frame::new(path, FrameOrigin::Program));
    /// profile.add_stack("parse", 0, stack, Duration::from_millis(60), 6);
    /// profile.add_wait("parse", 0, "read", Duration::from_millis(40));
    /// let lines = "parse;app::parse;app::number 60000\nparse;(off the CPU);read 40000\n";
    /// assert_eq!(profile.folded_text(Frames::Own), lines);
    /// ```
    #[must_use]
    pub fn folded_text(&self, frames: Frames) -> String {
        let mut text = String::new();
        for name in self.names() {
            let Some(profile) = self.of(&name.name) else { continue };
            let profile = profile.with(frames);
            let name = clean(&name.name);
            let mut line = |stack: String, time: u64| {
                // Writing to a text does not fail.
                let _ = writeln!(text, "{name};{stack} {}", time / 1000);
            };
            for (stack, time) in profile.on.stacks() {
                let functions: Vec<String> = stack.into_iter().map(|frame| clean(&frame.function)).collect();
                line(functions.join(";"), time);
            }
            if profile.on.other() > 0 {
                line("(other stacks)".to_string(), profile.on.other());
            }
            for (call, time) in &profile.off {
                line(format!("(off the CPU);{}", clean(call)), *time);
            }
        }
        text
    }
}

/// A name without what would end a line or a part of it.
fn clean(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == ';' {
                ':'
            } else if c.is_control() {
                '?'
            } else {
                c
            }
        })
        .collect()
}

/// Milliseconds and up.
struct Took(Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            s if s >= 100.0 => write!(f, "{s:.0} s"),
            s if s >= 1.0 => write!(f, "{s:.1} s"),
            s => write!(f, "{:.0} ms", s * 1000.0),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (worker, why) in self.off() {
            writeln!(f, "{} is not sampled: {}", clean(worker), clean(&why.to_string()))?;
        }
        if self.is_empty() {
            return f.write_str("no samples yet");
        }
        let frames = if f.alternate() { Frames::All } else { Frames::Own };
        let mut first = true;
        for name in self.names() {
            let Some(profile) = self.of(&name.name) else { continue };
            if !std::mem::take(&mut first) {
                f.write_char('\n')?;
            }
            write!(f, "{}  {}", clean(&name.name), Took(name.time()))?;
            write_tree(f, &profile.with(frames))?;
        }
        if self.lost() > 0 {
            write!(f, "\n{} samples had no room", self.lost())?;
        }
        Ok(())
    }
}

fn write_tree(f: &mut fmt::Formatter<'_>, profile: &NameProfile) -> fmt::Result {
    let all = profile.time().as_nanos().max(1) as f64;
    let mut line = |depth: usize, time: u64, what: fmt::Arguments<'_>| {
        write!(f, "\n{:5.0} %  {:width$}{what}", time as f64 / all * 100.0, "", width = 2 * depth)
    };
    let mut open: Vec<(usize, Shown<'_>)> = Vec::new();
    push(&mut open, 0, profile.on.roots(), all);
    while let Some((depth, shown)) = open.pop() {
        match shown {
            Shown::Function(node, total) => {
                line(depth, total, format_args!("{}", clean(&node.frame().function)))?;
                if depth < DEEPEST {
                    push(&mut open, depth + 1, node.children(), all);
                }
            }
            Shown::Others(n, total) => line(depth, total, format_args!("… {n} more"))?,
        }
    }
    if profile.on.other() > 0 {
        line(0, profile.on.other(), format_args!("other stacks"))?;
    }
    let off = profile.off_cpu().as_nanos() as u64;
    if off as f64 >= LEAST * all {
        line(0, off, format_args!("off the CPU"))?;
        let mut calls: Vec<_> = profile.off.iter().collect();
        calls.sort_by_key(|(_, time)| Reverse(**time));
        for (call, time) in calls.into_iter().filter(|(_, time)| **time as f64 >= LEAST * all) {
            line(1, *time, format_args!("{}", clean(call)))?;
        }
    }
    Ok(())
}

enum Shown<'a> {
    Function(NodeRef<'a, Frame>, u64),
    /// So many that took little.
    Others(usize, u64),
}

/// Has functions shown next, those that took most before others.
fn push<'a>(
    open: &mut Vec<(usize, Shown<'a>)>,
    depth: usize,
    nodes: impl Iterator<Item = NodeRef<'a, Frame>>,
    all: f64,
) {
    let mut nodes: Vec<(NodeRef<'_, Frame>, u64)> = nodes.map(|node| (node, node.total())).collect();
    nodes.sort_by_key(|(_, total)| *total);
    let small = nodes.iter().take_while(|(_, total)| (*total as f64) < LEAST * all).count();
    let others: u64 = nodes.drain(..small).map(|(_, total)| total).sum();
    if others as f64 >= LEAST * all {
        open.push((depth, Shown::Others(small, others)));
    }
    open.extend(nodes.into_iter().map(|(node, total)| (depth, Shown::Function(node, total))));
}

#[cfg(test)]
mod tests {
    use super::super::FrameOrigin;
    use super::*;

    fn profile() -> Profile {
        let mut profile = Profile::default();
        let frame = |path: &str, origin| Frame::new(path, origin);
        let stack = |paths: &[&str]| -> Vec<Frame> {
            let origin = |path: &str| if path.starts_with("std") { FrameOrigin::Std } else { FrameOrigin::Program };
            paths.iter().map(|path| frame(path, origin(path))).collect()
        };
        let ms = Duration::from_millis;
        profile.add_stack("parse", 1, stack(&["parse"]), ms(20), 2);
        profile.add_stack("parse", 1, stack(&["parse", "split", "std::a", "std::b"]), ms(300), 30);
        profile.add_stack("parse", 2, stack(&["parse", "number"]), ms(280), 28);
        profile.add_wait("parse", 2, "read", ms(390));
        profile.add_wait("parse", 2, "futex", ms(5));
        profile.add_wait("parse", 2, "poll", ms(5));
        profile.add_stack("tiny", 2, stack(&["tiny"]), ms(10), 1);
        profile
    }

    #[test]
    fn a_profile_is_shown_as_a_tree() {
        let expected = "parse  1.0 s
   60 %  parse
   30 %    split
   30 %      std::a
   28 %    number
   40 %  off the CPU
   39 %    read
tiny  10 ms
  100 %  tiny";
        assert_eq!(profile().to_string(), expected);
        assert!(format!("{:#}", profile()).contains("   30 %        std::b"));
        assert_eq!(Profile::default().to_string(), "no samples yet");
    }

    #[test]
    fn names_cannot_break_lines() {
        let mut profile = Profile::default();
        profile.add_stack(
            "a;b\nc\u{1b}[2J",
            1,
            [Frame::new("f\r;g", FrameOrigin::Program)],
            Duration::from_millis(1),
            1,
        );
        assert_eq!(profile.folded_text(Frames::Own), "a:b?c?[2J;f?:g 1000\n");
        assert_eq!(profile.to_string().lines().count(), 2);
    }

    #[test]
    fn a_deep_stack_is_shown_to_a_depth() {
        let mut profile = Profile::default();
        let deep = (0..3000).map(|n| Frame::new(format!("f{n}"), FrameOrigin::Program));
        profile.add_stack("deep", 1, deep, Duration::from_millis(1), 1);
        assert_eq!(profile.to_string().lines().count(), DEEPEST + 2);
        assert_eq!(profile.folded_text(Frames::All).lines().count(), 1);
    }
}
