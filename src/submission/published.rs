//! What a mode without workers has published: values of this process, by name.

use crate::error::PublishError;
use crate::status::Published;
use crate::task::Value;
use crate::task::call::guarded_serde;
use crate::task::codec::Codec;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// The published results of a mode. What is there counts no handles: it stays until it is taken away, or the client ends.
#[derive(Default)]
pub(crate) struct PublishedValues(Mutex<BTreeMap<String, Entry>>);

/// Values, with what they are encoded with.
type Values = Vec<(Value, &'static Codec)>;

#[derive(Clone)]
struct Entry {
    type_name: &'static str,
    values: Values,
}

impl PublishedValues {
    pub(crate) fn publish(&self, name: &str, type_name: &'static str, values: Values) -> Result<(), PublishError> {
        let entry = Entry { type_name, values };
        let mut all = self.0.lock();
        if all.contains_key(name) {
            drop(all);
            return Err(PublishError::Taken { name: name.to_string() });
        }
        all.insert(name.to_string(), entry);
        Ok(())
    }

    pub(crate) fn read(&self, name: &str, wanted: &'static str) -> Result<Values, PublishError> {
        match self.0.lock().get(name) {
            None => Err(PublishError::Missing { name: name.to_string() }),
            Some(entry) if entry.type_name != wanted => Err(PublishError::WrongType {
                name: name.to_string(),
                wanted: wanted.to_string(),
                there: entry.type_name.to_string(),
            }),
            Some(entry) => Ok(entry.values.clone()),
        }
    }

    pub(crate) fn unpublish(&self, name: &str) -> Result<(), PublishError> {
        let removed = self.0.lock().remove(name);
        // The value's own code runs here, under no lock.
        removed.map(drop).ok_or_else(|| PublishError::Missing { name: name.to_string() })
    }

    pub(crate) fn list(&self) -> Vec<Published> {
        let all: Vec<(String, Entry)> =
            self.0.lock().iter().map(|(name, entry)| (name.clone(), entry.clone())).collect();
        let told = |(name, entry): (String, Entry)| {
            let sizes = entry.values.iter().map(|(value, codec)| codec.size(value));
            let nbytes = guarded_serde("Serialize", || sizes.sum()).ok();
            Published::new(name, entry.type_name.to_string(), nbytes)
        };
        all.into_iter().map(told).collect()
    }

    /// Lets go of everything.
    pub(crate) fn clear(&self) {
        let all = std::mem::take(&mut *self.0.lock());
        // Values of the user's go here.
        drop(all);
    }
}
