//! What is computed in one go, as the tasks that it stands for: tasks that its members hold, tasks that are made for it, and
//! plans that are lowered late and jointly.

use super::Client;
use super::computable::Computable;
use super::picture::rules::{self, LayerRule};
use crate::delayed::Delayed;
use crate::error::{Error, Result};
use crate::graph::node::Node;
use crate::task::function::short_name;
use std::any::{Any, type_name};
use std::fmt;
use std::sync::Arc;

/// Work that becomes tasks only when something is computed, together with all other plans of its type that are computed in
/// the same call: so that what they have in common is found, and one task can serve several results.
///
/// A [collection](crate::collection::Collection) registers its plan with [`Lowering::plan`].
///
/// ```
/// use std::sync::Arc;
/// use swath::collection::{Collection, CollectionExt, Chunks, Lowered, Lowering, Plan, PlanContext};
/// use swath::{Client, Result, delayed};
///
/// /// One number of a list of numbers that is costly to make.
/// #[derive(Clone)]
/// struct Entry(usize);
///
/// impl Plan for Entry {
///     fn lower(plans: Vec<Self>, _: &PlanContext<'_>) -> Result<Vec<Lowered>> {
///         let list = delayed(|| vec![1.5, 2.5]).call(); // once for all
///         let entry = |plan: &Entry| delayed(|list: Vec<f64>, i: usize| list[i]).call(&list, plan.0);
///         Ok(plans.iter().map(|plan| Lowered::from(entry(plan))).collect())
///     }
/// }
///
/// impl Collection for Entry {
///     type Chunk = f64;
///     type Output = f64;
///     fn nchunks(&self) -> usize {
///         1
///     }
///     fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
///         lowering.plan(self.clone());
///         Ok(())
///     }
///     fn assemble(&self, chunks: Vec<f64>) -> Result<f64> {
///         Ok(chunks[0])
///     }
///     fn with_chunks(&self, _: Chunks<f64>) -> Self {
///         self.clone()
///     }
/// }
/// swath::computable!(Entry);
///
/// assert_eq!(Client::sync().compute((Entry(1), Entry(0)))?, (2.5, 1.5));
/// # Ok::<(), swath::Error>(())
/// ```
pub trait Plan: Send + Sized + 'static {
    /// Lowers all plans of this type that one call has registered, in the order in which they were: for each, the tasks that
    /// give its results.
    ///
    /// # Errors
    /// Where the plans cannot be carried out. Then nothing runs.
    fn lower(plans: Vec<Self>, context: &PlanContext<'_>) -> Result<Vec<Lowered>>;
}

/// What a [`Plan`] is lowered for.
#[derive(Clone, Copy, Debug)]
pub struct PlanContext<'a> {
    client: Option<&'a Client>,
    persists: bool,
}

impl<'a> PlanContext<'a> {
    /// The client that is to compute it; none where only its tasks are looked at.
    #[must_use]
    pub fn client(&self) -> Option<&'a Client> {
        self.client
    }

    /// Whether the results are to stay with the workers.
    #[must_use]
    pub fn persists(&self) -> bool {
        self.persists
    }
}

/// Tasks that have been made of a plan.
#[derive(Default)]
pub struct Lowered(Vec<Arc<Node>>);

impl fmt::Debug for Lowered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lowered({} tasks)", self.0.len())
    }
}

impl<T> From<Delayed<T>> for Lowered {
    fn from(task: Delayed<T>) -> Self {
        Self(vec![Arc::clone(task.node())])
    }
}

impl<T> FromIterator<Delayed<T>> for Lowered {
    fn from_iter<I: IntoIterator<Item = Delayed<T>>>(tasks: I) -> Self {
        Self(tasks.into_iter().map(|task| Arc::clone(task.node())).collect())
    }
}

/// All plans of one type.
trait Plans {
    /// Adds a plan of the type; gives its number.
    fn push(&mut self, plan: Box<dyn Any + Send>) -> usize;
    fn lower(self: Box<Self>, context: &PlanContext<'_>) -> Result<Vec<Lowered>>;
    fn is_of(&self, plan: &dyn Any) -> bool;
}

impl<P: Plan> Plans for Vec<P> {
    fn push(&mut self, plan: Box<dyn Any + Send>) -> usize {
        self.extend(plan.downcast::<P>().map(|plan| *plan));
        self.len() - 1
    }

    fn lower(self: Box<Self>, context: &PlanContext<'_>) -> Result<Vec<Lowered>> {
        let plans = self.len();
        let lowered = P::lower(*self, context)?;
        match lowered.len() == plans {
            true => Ok(lowered),
            false => {
                let what = format!("the plan of `{}`", short_name(type_name::<P>()));
                Err(Error::invalid(what, format!("it gives tasks for {} of {plans} plans", lowered.len())))
            }
        }
    }

    fn is_of(&self, plan: &dyn Any) -> bool {
        plan.is::<P>()
    }
}

/// Tasks that stand between borrowed ones.
enum Owned {
    Made(Vec<Arc<Node>>),
    /// What becomes of plan number `plan` of group `group`.
    Planned {
        group: usize,
        plan: usize,
        collection: Option<usize>,
    },
}

/// A collection among what is computed.
struct Member {
    name: &'static str,
    /// How many chunks it says it has.
    declared: usize,
    counted: usize,
}

/// Takes the tasks that the members of one [`compute`](Client::compute) or [`persist`](Client::persist) stand for.
pub struct Lowering<'a> {
    context: PlanContext<'a>,
    /// Tasks that the members hold. Borrowed, since a clone of a handle makes a task look as if it had several users.
    tasks: Vec<&'a Arc<Node>>,
    /// Other tasks, and how many borrowed ones come before.
    owned: Vec<(usize, Owned)>,
    plans: Vec<Box<dyn Plans>>,
    members: Vec<Member>,
    /// The collection that is being lowered.
    current: Option<usize>,
    /// Tasks made of rules, which others may need too.
    kept: Vec<Arc<Vec<Arc<Node>>>>,
    /// Where only a picture is made: layers that stay rules.
    rules: Option<Vec<Arc<dyn LayerRule>>>,
}

impl fmt::Debug for Lowering<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lowering").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl<'a> Lowering<'a> {
    /// The tasks of `what`; `client`: who is to compute them.
    pub(super) fn of<C: Computable + ?Sized>(
        what: &'a C,
        client: Option<&'a Client>,
        persists: bool,
    ) -> Result<Roots<'a>> {
        let mut lowering = Self::new(PlanContext { client, persists });
        what.lower(&mut lowering)?;
        lowering.finish()
    }

    /// The tasks of one collection, for nobody in particular.
    pub(crate) fn of_one(
        name: &'static str,
        declared: usize,
        lower: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<Vec<Arc<Node>>> {
        let mut lowering = Self::new(PlanContext { client: None, persists: false });
        lowering.collection(name, declared, lower)?;
        Ok(lowering.finish()?.with(|nodes| nodes.iter().map(|node| Arc::clone(node)).collect()))
    }

    /// The tasks of `what`, for nobody in particular, and how many of them each collection has.
    pub(crate) fn tasks_of<C: Computable + ?Sized>(what: &'a C) -> Result<(Vec<Arc<Node>>, Vec<usize>)> {
        let roots = Self::of(what, None, false)?;
        let tasks = roots.with(|nodes| nodes.iter().map(|node| Arc::clone(node)).collect());
        Ok((tasks, roots.counts))
    }

    /// The tasks of `what` for a picture. Layers that are large stay rules.
    pub(super) fn for_picture<C: Computable + ?Sized>(what: &'a C) -> Result<PictureRoots> {
        let mut lowering = Self::new(PlanContext { client: None, persists: false });
        lowering.rules = Some(Vec::new());
        what.lower(&mut lowering)?;
        let rules = lowering.rules.take().unwrap_or_default();
        let tasks = lowering.finish()?.with(|nodes| nodes.iter().map(|node| Arc::clone(node)).collect());
        Ok(PictureRoots { tasks, rules })
    }

    /// Keeps a layer as a rule, if that is what is wanted of it.
    pub(crate) fn keep_rule(&mut self, rule: &Arc<impl LayerRule + 'static>) -> bool {
        let Some(rules) = &mut self.rules else { return false };
        if !rules::is_large(&**rule) {
            return false;
        }
        let rule: Arc<dyn LayerRule> = Arc::clone(rule) as _;
        let len = rule.len();
        rules.push(rule);
        self.count(len);
        true
    }

    fn new(context: PlanContext<'a>) -> Self {
        let (tasks, owned, plans, members, kept) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { context, tasks, owned, plans, members, current: None, kept, rules: None }
    }

    fn count(&mut self, tasks: usize) {
        if let Some(member) = self.current {
            self.members[member].counted += tasks;
        }
    }

    /// A task that whoever is computed holds.
    pub fn task<T>(&mut self, task: &'a Delayed<T>) {
        self.node(task.node());
    }

    pub(crate) fn node(&mut self, node: &'a Arc<Node>) {
        self.count(1);
        self.tasks.push(node);
    }

    /// Tasks that have been made for this call.
    pub fn made_tasks(&mut self, tasks: impl Into<Lowered>) {
        let Lowered(tasks) = tasks.into();
        self.count(tasks.len());
        self.owned.push((self.tasks.len(), Owned::Made(tasks)));
    }

    pub(crate) fn made(&mut self, tasks: &[Arc<Node>]) {
        self.made_tasks(Lowered(tasks.to_vec()));
    }

    /// A plan, which is lowered with all others of its type when every member has been asked.
    pub fn plan<P: Plan>(&mut self, plan: P) {
        let group = self.plans.iter().position(|plans| plans.is_of(&plan)).unwrap_or_else(|| {
            self.plans.push(Box::new(Vec::<P>::new()));
            self.plans.len() - 1
        });
        let number = self.plans[group].push(Box::new(plan));
        let planned = Owned::Planned { group, plan: number, collection: self.current };
        self.owned.push((self.tasks.len(), planned));
    }

    /// Where tasks are kept until the graph is made, for those who need the same.
    pub(crate) fn kept(&mut self) -> &mut Vec<Arc<Vec<Arc<Node>>>> {
        &mut self.kept
    }

    /// Lowers a collection that says it has so many chunks.
    pub(crate) fn collection(
        &mut self,
        name: &'static str,
        declared: usize,
        lower: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.members.push(Member { name, declared, counted: 0 });
        let before = self.current.replace(self.members.len() - 1);
        let lowered = lower(self);
        self.current = before;
        lowered
    }

    fn finish(mut self) -> Result<Roots<'a>> {
        let mut lowered = Vec::with_capacity(self.plans.len());
        for plans in std::mem::take(&mut self.plans) {
            lowered.push(plans.lower(&self.context)?);
        }
        let mut owned = Vec::with_capacity(self.owned.len());
        for (at, tasks) in self.owned {
            let tasks = match tasks {
                Owned::Made(tasks) => tasks,
                Owned::Planned { group, plan, collection } => {
                    let Lowered(tasks) = std::mem::take(&mut lowered[group][plan]);
                    if let Some(member) = collection {
                        self.members[member].counted += tasks.len();
                    }
                    tasks
                }
            };
            owned.push((at, tasks));
        }
        for Member { name, declared, counted } in &self.members {
            if declared != counted {
                let why = format!("it says that it has {declared}, and is put together of {counted}");
                return Err(Error::invalid(format!("the chunks of `{}`", short_name(name)), why));
            }
        }
        let counts = self.members.iter().map(|member| member.counted).collect();
        Ok(Roots { tasks: self.tasks, owned, counts })
    }
}

/// What a picture shows the results of.
pub(super) struct PictureRoots {
    pub(super) tasks: Vec<Arc<Node>>,
    pub(super) rules: Vec<Arc<dyn LayerRule>>,
}

/// The tasks of all members of one call.
pub(super) struct Roots<'a> {
    tasks: Vec<&'a Arc<Node>>,
    owned: Vec<(usize, Vec<Arc<Node>>)>,
    /// How many of them each collection has.
    pub(super) counts: Vec<usize>,
}

impl Roots<'_> {
    /// Gives all of them, in order.
    pub(super) fn with<R>(&self, give: impl FnOnce(&[&Arc<Node>]) -> R) -> R {
        if self.owned.is_empty() {
            return give(&self.tasks);
        }
        let mut all: Vec<&Arc<Node>> = Vec::new();
        let mut taken = 0;
        for (before, tasks) in &self.owned {
            all.extend_from_slice(&self.tasks[taken..*before]);
            all.extend(tasks);
            taken = *before;
        }
        all.extend_from_slice(&self.tasks[taken..]);
        give(&all)
    }
}
