//! Plans that are lowered late, and together with others of their type.

use super::numbers::Numbers;
use crate::common::{directory, note, notes, path};
use std::collections::HashMap;
use std::sync::Arc;
use swath::collection::{Chunks, Collection, CollectionExt, Input, Layer, Lowered, Lowering, Plan, PlanContext};
use swath::{Client, Delayed, Error, Result, delayed};

/// What is to be known of numbers.
#[derive(Clone, Copy, PartialEq)]
enum What {
    Sum,
    Max,
}

/// One statistic of numbers. Those that are computed together read each chunk once.
#[derive(Clone)]
struct Statistic {
    numbers: Numbers,
    what: What,
    /// Where runs of tasks are noted.
    file: String,
    held: Option<Chunks<f64>>,
}

impl Plan for Statistic {
    fn lower(plans: Vec<Self>, context: &PlanContext<'_>) -> Result<Vec<Lowered>> {
        fn statistics(chunk: Arc<Vec<f64>>, file: Arc<String>) -> (f64, f64) {
            note(&file, "statistics");
            (chunk.iter().sum(), chunk.iter().copied().fold(f64::MIN, f64::max))
        }
        fn together(all: Vec<(f64, f64)>) -> (f64, f64) {
            all.into_iter().fold((0.0, f64::MIN), |(sum, max), (s, m)| (sum + s, max.max(m)))
        }
        assert!(context.client().is_none_or(|client| client.progress().counts.failed < 100));
        note(&plans[0].file, format!("lowered {} {}", plans.len(), context.persists()));
        let mut of: HashMap<String, Delayed<(f64, f64)>> = HashMap::new();
        let mut all = Vec::new();
        for plan in plans {
            plan.numbers.chunks.check()?;
            let key = plan.numbers.chunks.to_delayed()[0].key();
            let both = of.entry(key).or_insert_with(|| {
                let inputs = (Input::chunk(&plan.numbers.chunks), Input::shared(plan.file.as_str()));
                Layer::over(inputs).chunks(statistics).tree(together)
            });
            all.push(Lowered::from(match plan.what {
                What::Sum => delayed(|both: (f64, f64)| both.0).call(&*both),
                What::Max => delayed(|both: (f64, f64)| both.1).call(&*both),
            }));
        }
        Ok(all)
    }
}

impl Collection for Statistic {
    type Chunk = f64;
    type Output = f64;

    fn nchunks(&self) -> usize {
        1
    }

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        match &self.held {
            Some(held) => held.lower(lowering)?,
            None => lowering.plan(self.clone()),
        }
        Ok(())
    }

    fn assemble(&self, chunks: Vec<f64>) -> Result<f64> {
        Ok(chunks[0])
    }

    fn with_chunks(&self, chunks: Chunks<f64>) -> Self {
        Self { held: Some(chunks), ..self.clone() }
    }
}

swath::computable!(Statistic);

fn statistic(numbers: &Numbers, what: What, file: &str) -> Statistic {
    Statistic { numbers: numbers.clone(), what, file: file.to_string(), held: None }
}

fn runs(file: &str) -> usize {
    notes(file).iter().filter(|line| *line == "statistics").count()
}

pub fn two_results_are_one_task(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let x = Numbers::ramp(20);
    let (sum, max) = (statistic(&x, What::Sum, &file), statistic(&x, What::Max, &file));
    assert_eq!(client.compute((&sum, &max)).unwrap(), (190.0, 19.0));
    assert_eq!(runs(&file), 5, "each chunk once for both");
    assert_eq!(notes(&file)[0], "lowered 2 false");
    // One after the other each is lowered by itself.
    assert_eq!((sum.compute(client).unwrap(), max.compute(client).unwrap()), (190.0, 19.0));
    assert_eq!(runs(&file), 15);
    let y = x.add(&x);
    let many = [sum.clone(), max.clone(), statistic(&y, What::Max, &file), sum.clone()];
    assert_eq!(client.compute(&many[..]).unwrap(), [190.0, 19.0, 38.0, 190.0]);
    assert_eq!(runs(&file), 25);
    assert_eq!(notes(&file).iter().filter(|line| line.starts_with("lowered")).count(), 4);
}

pub fn kept(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let x = Numbers::ramp(20);
    let (sum, max) = client.persist((&statistic(&x, What::Sum, &file), &statistic(&x, What::Max, &file))).unwrap();
    assert_eq!(client.compute((&max, &sum)).unwrap(), (19.0, 190.0));
    assert_eq!((runs(&file), notes(&file)[0].as_str()), (5, "lowered 2 true"));
}

pub fn mixed_with_others(client: &Client) {
    let dir = directory();
    let file = path(&dir, "notes");
    let x = Numbers::ramp(20);
    let (sum, max) = (statistic(&x, What::Sum, &file), statistic(&x, What::Max, &file));
    let one = delayed(|| 1).call();
    let all = client.compute((&one, &sum, &x, vec![&max, &sum], &x.sum(), &max)).unwrap();
    assert_eq!((all.0, all.1, all.2.len(), all.3, all.4, all.5), (1, 190.0, 20, vec![19.0, 190.0], 190.0, 19.0));
    assert_eq!(runs(&file), 5);
    assert!(sum.to_dot().unwrap().contains("statistics"));
    assert_eq!(sum.name("total").compute(client).unwrap(), 190.0);
    assert_eq!(client.compute(&sum.to_delayed().unwrap()).unwrap(), [190.0]);
}

/// A plan that gives tasks for none.
#[derive(Clone)]
struct Lazybones(usize);

impl Plan for Lazybones {
    fn lower(plans: Vec<Self>, _: &PlanContext<'_>) -> Result<Vec<Lowered>> {
        let one = || delayed(|| 1_i64).call();
        match plans[0].0 {
            0 => Ok(Vec::new()),
            1 => Ok(plans.iter().map(|_| [one(), one()].into_iter().collect()).collect()),
            _ => Err(Error::collection(super::numbers::NumbersError::NotANumber)),
        }
    }
}

impl Collection for Lazybones {
    type Chunk = i64;
    type Output = usize;

    fn nchunks(&self) -> usize {
        1
    }

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        lowering.plan(self.clone());
        Ok(())
    }

    fn assemble(&self, chunks: Vec<i64>) -> Result<usize> {
        Ok(chunks.len())
    }

    fn with_chunks(&self, _: Chunks<i64>) -> Self {
        self.clone()
    }
}

swath::computable!(Lazybones);

pub fn that_go_wrong(client: &Client) {
    let error = |kind| client.compute((&Lazybones(kind), &Numbers::ramp(3))).unwrap_err();
    let text = "bad value for the plan of `Lazybones`: it gives tasks for 0 of 1 plans";
    assert_eq!(error(0).to_string(), text);
    let text = "bad value for the chunks of `Lazybones`: it says that it has 1, and is put together of 2";
    assert_eq!(error(1).to_string(), text);
    assert!(error(2).downcast_ref::<super::numbers::NumbersError>().is_some());
}
