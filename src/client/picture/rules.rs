//! Layers that are held as a rule, in a picture: each is one layer there, too, so that a million tasks are not made for it.

use crate::graph::node::Node;
use crate::graph::options::Options;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use swath_insight::picture::{Layer, LayerId, LayerInput, Link, MOST_TASKS, NameId, TaskGraph, TaskId};

/// The most steps in one task, as when it runs.
const MOST_STEPS: usize = 128;

/// A layer of a collection that is held as a rule.
pub(crate) trait LayerRule: Send + Sync {
    /// What its tasks are called.
    fn name(&self) -> String;
    /// How many there are.
    fn len(&self) -> usize;
    fn options(&self) -> &Options;
    /// Whether its tasks can be parts of those that read them element by element.
    fn can_stream(&self) -> bool;
    /// The rules that its tasks use.
    fn rules(&self) -> Vec<Arc<dyn LayerRule>>;
    /// What its tasks use.
    fn inputs(&self) -> Vec<RuleInput>;
}

/// What the tasks of a rule use.
pub(crate) enum RuleInput {
    Rule {
        rule: Arc<dyn LayerRule>,
        link: Link,
        edges: u64,
        /// Whether the elements are read one by one.
        elements: bool,
    },
    Tasks {
        /// Each once.
        tasks: Vec<Arc<Node>>,
        link: Link,
        edges: u64,
    },
}

fn identity(rule: &Arc<dyn LayerRule>) -> *const () {
    Arc::as_ptr(rule).cast()
}

/// Whether the tasks of a rule, and of those that it uses, are more than can be drawn one by one.
pub(crate) fn is_large(rule: &dyn LayerRule) -> bool {
    let mut tasks = rule.len() as u64;
    let (mut left, mut met) = (rule.rules(), FxHashSet::default());
    while let Some(rule) = left.pop() {
        if tasks > MOST_TASKS {
            break;
        }
        if met.insert(identity(&rule)) {
            tasks += rule.len() as u64;
            left.extend(rule.rules());
        }
    }
    tasks > MOST_TASKS
}

/// A rule that a picture has met.
struct MetRule {
    rule: Arc<dyn LayerRule>,
    inputs: Vec<RuleInput>,
    is_root: bool,
    /// How many other rules use it.
    users: usize,
}

/// The rules of a picture, each after those that it uses.
pub(super) struct Rules(Vec<MetRule>);

impl Rules {
    pub(super) fn of(roots: &[Arc<dyn LayerRule>]) -> Self {
        let mut met: Vec<MetRule> = Vec::new();
        let mut places: FxHashMap<*const (), usize> = FxHashMap::default();
        // A chain of rules may be long, so this does not descend by calls.
        let mut stack: Vec<(Arc<dyn LayerRule>, bool)> =
            roots.iter().rev().map(|rule| (Arc::clone(rule), false)).collect();
        while let Some((rule, inputs_met)) = stack.pop() {
            if places.contains_key(&identity(&rule)) {
                continue;
            }
            if !inputs_met {
                let inputs = rule.rules();
                stack.push((rule, true));
                stack.extend(inputs.into_iter().map(|input| (input, false)));
                continue;
            }
            places.insert(identity(&rule), met.len());
            let inputs = rule.inputs();
            for input in &inputs {
                if let RuleInput::Rule { rule, .. } = input
                    && let Some(&place) = places.get(&identity(rule))
                {
                    met[place].users += 1;
                }
            }
            met.push(MetRule { rule, inputs, is_root: false, users: 0 });
        }
        for root in roots {
            if let Some(&place) = places.get(&identity(root)) {
                met[place].is_root = true;
            }
        }
        Self(met)
    }

    /// The tasks that they use.
    pub(super) fn tasks(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.0.iter().flat_map(|met| &met.inputs).flat_map(|input| match input {
            RuleInput::Tasks { tasks, .. } => tasks.as_slice(),
            RuleInput::Rule { .. } => &[],
        })
    }

    /// Adds them to a graph. Unless each is to stay one layer, a step that one other reads element by element is a part of
    /// that. `id`: that of the next of the [`tasks`](Self::tasks).
    pub(super) fn add_to(self, graph: &mut TaskGraph, fuse: bool, mut id: impl FnMut() -> Option<TaskId>) {
        let mut layers: FxHashMap<*const (), Added> = FxHashMap::default();
        for MetRule { rule, inputs, is_root, users } in self.0 {
            let mut layer = Layer::new(graph.name(&rule.name()), rule.len() as u64);
            layer.is_result = is_root;
            for input in inputs {
                match input {
                    RuleInput::Tasks { tasks, link, edges } => {
                        let tasks = tasks.iter().filter_map(|_| id()).collect();
                        layer.inputs.push(LayerInput::Tasks { tasks, link, edges });
                    }
                    RuleInput::Rule { rule: input, link, edges, elements } => match layers.get(&identity(&input)) {
                        Some(Added::Step(step, options))
                            if elements && rule.options().agrees(options) && step.fits() =>
                        {
                            layer.inputs.extend(step.inputs.iter().cloned());
                            layer.steps.extend(step.steps());
                        }
                        Some(_) => {
                            let from = Added::layer(&mut layers, identity(&input), graph);
                            layer.inputs.extend(from.map(|layer| LayerInput::Layer { layer, link, edges }));
                        }
                        None => {}
                    },
                }
            }
            if !layer.steps.is_empty() {
                layer.steps.push(layer.name);
            }
            let may_be_step = fuse && !is_root && users == 1 && rule.can_stream();
            let added = match may_be_step {
                true => Added::Step(layer, Box::new(rule.options().clone())),
                false => Added::Layer(graph.push_layer(layer)),
            };
            layers.insert(identity(&rule), added);
        }
    }
}

/// What has become of a rule.
enum Added {
    Layer(LayerId),
    /// It is added as a layer only if its user cannot take it in.
    Step(Layer, Box<Options>),
}

impl Added {
    /// The layer of a rule, which is added now if it was not.
    fn layer(all: &mut FxHashMap<*const (), Self>, rule: *const (), graph: &mut TaskGraph) -> Option<LayerId> {
        let added = all.get_mut(&rule)?;
        if let Self::Step(layer, _) = added {
            let layer = std::mem::replace(layer, Layer::new(layer.name, 0));
            *added = Self::Layer(graph.push_layer(layer));
        }
        match added {
            Self::Layer(layer) => Some(*layer),
            Self::Step(..) => None,
        }
    }
}

/// A layer as a step of another.
trait Step {
    fn fits(&self) -> bool;
    fn steps(&self) -> Vec<NameId>;
}

impl Step for Layer {
    fn fits(&self) -> bool {
        self.steps.len() < MOST_STEPS
    }

    fn steps(&self) -> Vec<NameId> {
        if self.steps.is_empty() { vec![self.name] } else { self.steps.clone() }
    }
}
