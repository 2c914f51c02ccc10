//! Errors that name the chunk, errors of the collection's own type, and collections that are put together wrongly.

use super::numbers::{Numbers, NumbersError, add};
use std::sync::Arc;
use swath::collection::{Chunks, Collection, CollectionExt, Elements, Input, Layer, Lowering, fail};
use swath::delayed::KeepError;
use swath::error::Cause;
use swath::{Client, Error, Result};

pub fn the_place_is_named(client: &Client) {
    fn checked(chunk: Arc<Vec<f64>>) -> f64 {
        assert!(chunk[0] != 4.0, "four");
        chunk[0]
    }
    let x = Numbers::ramp(16);
    let message = |chunks: Chunks<f64>| {
        let error = chunks.compute(client).unwrap_err();
        let Cause::Panic { message, .. } = error.task().unwrap().cause() else { panic!("{error}") };
        message.clone()
    };
    assert_eq!(message(Layer::over((Input::chunk(&x.chunks),)).chunks(checked)), "four (in chunk 1)");
    let grid = x.chunks.clone().in_grid(&[2, 2]);
    assert_eq!(message(Layer::over((Input::chunk(&grid),)).chunks(checked)), "four (in chunk (0, 1))");
    let layer = Layer::over((Input::chunk(&grid),)).in_partitions();
    assert_eq!(message(layer.chunks(checked)), "four (in partition 1)");
    let layer = Layer::over((Input::elements(&x.chunks),));
    let elements = layer.elements(|all: Elements<f64>| all.inspect(|x| assert!(*x < 6.0, "six")));
    let error = elements.compute(client).unwrap_err();
    assert!(error.to_string().contains("six (at element 2 of chunk 1)"), "{error}");
}

pub fn of_its_own_type(client: &Client) {
    // From a task: typed, with the chunk and the task.
    let negative = Layer::over((Input::each([0.0, 1.0, -1.0]),)).chunks(|x: Arc<f64>| vec![*x]);
    let error = Numbers { chunks: negative, len: 9 }.root().sum().compute(client).unwrap_err();
    let task = error.task().unwrap();
    assert_eq!(task.downcast::<NumbersError>(), Some(NumbersError::NotANumber));
    assert!(task.to_string().contains("the root of a negative number (in chunk 2)"), "{task}");
    assert_eq!(Numbers::ramp(5).root().compute(client).unwrap()[4], 2.0);
    let failing = Layer::over((Input::elements(&Numbers::ramp(8).chunks),)).chunks(|all: Elements<f64>| {
        all.for_each(|x| {
            if x == 5.0 {
                fail(KeepError(NumbersError::Size(5)));
            }
        });
    });
    let error = failing.compute(client).unwrap_err();
    assert_eq!(error.task().unwrap().downcast::<NumbersError>(), Some(NumbersError::Size(5)));
    assert!(error.to_string().contains("(at element 1 of chunk 1)"), "{error}");

    // From putting the collection together, before anything runs, also beside others.
    let before = client.progress().counts.total();
    let wrong = Numbers::ramp(8).add(&Numbers::ramp(9));
    for error in [
        wrong.compute(client).unwrap_err(),
        wrong.persist(client).unwrap_err(),
        client.compute((&Numbers::ramp(8), &wrong)).unwrap_err(),
        wrong.to_delayed().unwrap_err(),
        wrong.to_dot().unwrap_err(),
        wrong.iter(client).unwrap_err(),
        wrong.name("named").compute(client).unwrap_err(),
        wrong.add(&Numbers::ramp(8)).compute(client).unwrap_err(),
    ] {
        assert_eq!(error.downcast_ref::<NumbersError>(), Some(&NumbersError::Lengths(8, 9)));
        assert_eq!(error.to_string(), "8 numbers and 9 cannot be added");
    }
    assert_eq!(client.progress().counts.total(), before);
    assert!(wrong.sum().compute(client).unwrap_err().to_string().contains("8 numbers and 9 cannot be added"));

    // From what becomes of the results.
    let ragged = Layer::over((Input::each([1, 2]),)).chunks(|n: Arc<usize>| vec![0.0; *n]);
    let error = Numbers { chunks: ragged, len: 8 }.compute(client).unwrap_err();
    assert_eq!(error.downcast_ref::<NumbersError>(), Some(&NumbersError::Size(1)));

    fn main(client: &Client) -> Result<Vec<f64>> {
        Numbers::ramp(8).add(&Numbers::ramp(9)).compute(client)
    }
    assert!(matches!(main(client), Err(Error::Collection(_))));
}

/// Says that it has more chunks than it has.
#[derive(Clone)]
struct Liar(Numbers);

impl Collection for Liar {
    type Chunk = Vec<f64>;
    type Output = ();

    fn nchunks(&self) -> usize {
        self.0.nchunks() + 1
    }

    fn lower<'a>(&'a self, lowering: &mut Lowering<'a>) -> Result<()> {
        self.0.chunks.lower(lowering)
    }

    fn assemble(&self, _: Vec<Vec<f64>>) -> Result<()> {
        Ok(())
    }

    fn with_chunks(&self, chunks: Chunks<Vec<f64>>) -> Self {
        Self(self.0.with_chunks(chunks))
    }
}

swath::computable!(Liar);

pub fn wrong_numbers_of_chunks(client: &Client) {
    let before = client.progress().counts.total();
    let liar = Liar(Numbers::ramp(8));
    for error in [
        liar.compute(client).unwrap_err(),
        liar.persist(client).map(drop).unwrap_err(),
        client.compute((&Numbers::ramp(8), [&liar])).unwrap_err(),
        liar.to_delayed().unwrap_err(),
    ] {
        let text = "bad value for the chunks of `Liar`: it says that it has 3, and is put together of 2";
        assert_eq!(error.to_string(), text);
    }
    let text = |chunks: Chunks<Vec<f64>>| chunks.compute(client).unwrap_err().to_string();
    let (two, three) = (Numbers::ramp(8).chunks, Numbers::ramp(9).chunks);
    let layer = Layer::over((Input::chunk(&two), Input::chunk(&three)));
    assert_eq!(text(layer.chunks(add)), "bad value for the inputs of `add`: they have 2 and 3 chunks");
    let layer = Layer::over((Input::chunk(&two), Input::chunk(&two))).times(3);
    assert_eq!(text(layer.chunks(add)), "bad value for the inputs of `add`: they have 2 chunks, and the layer 3");
    let layer = Layer::over((Input::shared(vec![1.0]), Input::shared(vec![1.0])));
    assert!(text(layer.chunks(add)).contains("they leave the number of chunks open"));
    let layer = Layer::over((Input::chunk(&two), Input::chunk(&two))).in_grid(&[2, 3]);
    assert_eq!(text(layer.chunks(add)), "bad value for the grid of `add`: 6 places for 2 chunks");
    assert!(text(two.clone().in_grid(&[4])).contains("[4] has 4 places, and there are 2"));
    let layer = Layer::over((Input::chunk(&two), Input::chunk_at(&two, [0, 5])));
    assert_eq!(text(layer.chunks(add)), "bad value for the number of a chunk: 5 of 2 chunks");
    assert_eq!(client.progress().counts.total(), before, "nothing has run");
}
