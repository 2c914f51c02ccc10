//! Files in object stores and on web servers.
//!
//! The client library is asynchronous, and tasks are not. A process that needs it has one thread with an event loop, and
//! whoever reads or writes waits for it: so the connections, and what was negotiated for them, are shared by all tasks of
//! the process, and it works the same from plain threads and from within somebody's async runtime, where one could not
//! block on another. Requests take milliseconds, so a hop from one thread to the other does not count; downloads run
//! ahead of their reader by a few large chunks.

use super::error::{FileError, FileProblem};
use super::location::{Listed, Location, Sink, StoreOptions};
use super::pattern::{Pattern, is_pattern};
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{
    ClientConfigKey, GetOptions, GetRange, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig,
};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::error::Error as StdError;
use std::io::{self, Cursor, Read, Write};
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use url::Url;

/// Downloads hand over so many bytes at once, and are so many chunks ahead of their reader.
const CHUNK: usize = 256 << 10;
const AHEAD: usize = 4;
/// Uploads of more than this go in parts of this size. S3 allows ten thousand parts of at least 5 MiB.
const PART: usize = 16 << 20;
/// What is read at once behind the range that was wanted.
const BEHIND: u64 = 1 << 20;
/// A waiting task looks so often whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// The event loop of this process.
fn event_loop() -> io::Result<Handle> {
    static LOOP: Mutex<Option<Handle>> = Mutex::new(None);
    let mut running = LOOP.lock();
    if let Some(handle) = &*running {
        return Ok(handle.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let forever = move || runtime.block_on(std::future::pending::<()>());
    std::thread::Builder::new().name("object-store".to_string()).spawn(forever)?;
    Ok(running.insert(handle).clone())
}

/// Runs a future in the event loop and waits for it. If the calling task is cancelled, so is the future.
fn wait<F>(future: F) -> io::Result<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let (send, receive) = sync_channel(1);
    let task = event_loop()?.spawn(async move {
        // Nobody listens any more if the waiter was cancelled.
        let _ = send.send(future.await);
    });
    loop {
        match receive.recv_timeout(LOOK) {
            Ok(output) => return Ok(output),
            Err(RecvTimeoutError::Timeout) if crate::cancelled() => {
                task.abort();
                return Err(FileProblem::Cancelled.into());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("the request was given up")),
        }
    }
}

/// An object, and what gives access to it.
struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

impl Object {
    fn of(url: &str, options: &StoreOptions) -> io::Result<Self> {
        let place = StorePlace::of(url)?;
        Ok(Self { path: place.path()?, store: place.connect(options)? })
    }
}

/// Which store, and what in it.
struct StorePlace {
    /// Scheme and bucket, container or host.
    base: String,
    key: String,
}

impl StorePlace {
    fn of(url: &str) -> io::Result<Self> {
        let unsupported = |reason: String| io::Error::from(FileProblem::Unsupported { reason });
        if is_web(url) {
            let parsed = Url::parse(url).map_err(|e| unsupported(format!("the URL is wrong: {e}")))?;
            let base = parsed[..url::Position::BeforePath].to_string();
            // A store of one object where there is more to the URL than host and path, or the path is written so that it
            // would not come back the same.
            let key = percent_encoding::percent_decode_str(parsed.path().trim_start_matches('/')).decode_utf8_lossy();
            let again = Path::parse(&key).ok().and_then(|path| {
                let mut again = Url::parse(&base).ok()?;
                again.path_segments_mut().ok()?.extend(path.parts());
                Some(again)
            });
            return Ok(match again.as_ref() == Some(&parsed) {
                true => Self { base, key: key.into_owned() },
                false => Self { base: parsed.into(), key: String::new() },
            });
        }
        // Keys are not percent-encoded in these, as in other tools.
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() || is_pattern(bucket) {
            return Err(unsupported("the URL has no name of a bucket or container behind its `//`".to_string()));
        }
        Ok(Self { base: format!("{scheme}://{bucket}"), key: key.to_string() })
    }

    fn path(&self) -> io::Result<Path> {
        if !is_web(&self.base) && (self.key.is_empty() || self.key.ends_with('/')) {
            return Err(FileProblem::Directory.into());
        }
        path(&self.key)
    }

    /// The client of the store; the same for all objects in it.
    fn connect(&self, options: &StoreOptions) -> io::Result<Arc<dyn ObjectStore>> {
        type Stores = FxHashMap<(String, StoreOptions), Arc<dyn ObjectStore>>;
        static STORES: Mutex<Option<Stores>> = Mutex::new(None);

        // Those of one object are not kept: there could be any number of them.
        if self.key.is_empty() && is_web(&self.base) {
            return self.build(options);
        }
        let mut stores = STORES.lock();
        let stores = stores.get_or_insert_default();
        let key = (self.base.clone(), options.clone());
        if let Some(store) = stores.get(&key) {
            return Ok(Arc::clone(store));
        }
        let store = self.build(options)?;
        stores.insert(key, Arc::clone(&store));
        Ok(store)
    }

    fn build(&self, options: &StoreOptions) -> io::Result<Arc<dyn ObjectStore>> {
        // As patient as the stores' own clients. The default would try a host that is not there for minutes.
        let retry = RetryConfig { max_retries: 4, retry_timeout: Duration::from_secs(60), ..RetryConfig::default() };
        let is_plain = |endpoint: Option<String>| endpoint.is_some_and(|e| e.starts_with("http://"));
        let base = self.base.as_str();
        let store: Arc<dyn ObjectStore> = match base.split("://").next() {
            Some("s3" | "s3a") => {
                let mut builder = AmazonS3Builder::from_env().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                let endpoints = [AmazonS3ConfigKey::Endpoint, AmazonS3ConfigKey::S3Endpoint];
                if endpoints.iter().any(|key| is_plain(builder.get_config_value(key))) {
                    builder = builder.with_allow_http(true);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
            Some("gs") => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
            Some("http" | "https") => {
                let mut builder = HttpBuilder::new().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                builder = builder.with_config(ClientConfigKey::AllowHttp, "true");
                Arc::new(builder.build().map_err(problem)?)
            }
            _ => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(base).with_retry(retry);
                for (key, value) in options {
                    builder = builder.with_config(option(key)?, value);
                }
                if is_plain(builder.get_config_value(&AzureConfigKey::Endpoint)) {
                    builder = builder.with_allow_http(true);
                }
                Arc::new(builder.build().map_err(problem)?)
            }
        };
        Ok(store)
    }

    fn listed(&self, object: ObjectMeta) -> Listed {
        let url = match self.key.is_empty() {
            true => self.base.clone(),
            false => format!("{}/{}", self.base, object.location),
        };
        Listed { location: Location::Remote(url), size: object.size, tag: object.e_tag.as_deref().map(plain_tag) }
    }
}

fn is_web(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

fn path(key: &str) -> io::Result<Path> {
    Path::parse(key).map_err(|e| FileProblem::Unsupported { reason: format!("this name cannot be used: {e}") }.into())
}

/// The key of an option.
fn option<K: FromStr>(key: &str) -> io::Result<K> {
    let unknown = |_| FileProblem::unsupported(format!("`{key}` is not an option of this kind of store")).into();
    key.to_ascii_lowercase().parse().map_err(unknown)
}

/// Stores write the same tag now with quotes and now without.
fn plain_tag(tag: &str) -> String {
    tag.trim_start_matches("W/").trim_matches('"').to_string()
}

fn problem(error: object_store::Error) -> FileProblem {
    use object_store::Error;
    match error {
        Error::NotFound { .. } => FileProblem::NotFound,
        Error::AlreadyExists { .. } => FileProblem::Exists,
        Error::PermissionDenied { .. } => FileProblem::Denied,
        e => FileProblem::Io { reason: told(&e) },
    }
}

/// An error with its causes: the outer ones often just say that there was one.
fn told(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

/// The object of a URL, or those that match it, in the order of their names.
pub(super) fn list(url: &str, options: &StoreOptions) -> Result<Vec<Listed>, FileError> {
    let failed = |e| FileError::io(url, e);
    let place = StorePlace::of(url).map_err(failed)?;
    let store = place.connect(options).map_err(failed)?;
    // In a web address `?` begins a query, and a web server lists nothing.
    let objects = if is_web(url) || !is_pattern(&place.key) {
        let path = place.path().map_err(failed)?;
        wait(async move { store.head(&path).await.map(|object| vec![object]) })
    } else {
        let pattern = Pattern::new(&place.key).map_err(|problem| FileError::of(url, problem))?;
        wait(async move { matching(&pattern, &*store).await })
    };
    let objects = objects.map_err(failed)?.map_err(|e| FileError::of(url, problem(e)))?;
    let mut found: Vec<_> = objects.into_iter().map(|object| place.listed(object)).collect();
    found.sort_by(|a, b| a.location.cmp(&b.location));
    Ok(found)
}

/// Goes down level by level, so that only what can match is listed.
async fn matching(pattern: &Pattern, store: &dyn ObjectStore) -> object_store::Result<Vec<ObjectMeta>> {
    let mut found = Vec::new();
    let mut folders = vec![Path::ROOT];
    for (i, segment) in pattern.segments().iter().enumerate() {
        let is_last = i + 1 == pattern.segments().len();
        let matches = |path: &Path| path.filename().is_some_and(|name| segment.matches(name));
        let mut below = Vec::new();
        for folder in folders {
            let prefix = (!folder.is_root()).then_some(&folder);
            if segment.is_any_depth() {
                let mut objects = store.list(prefix);
                while let Some(object) = objects.try_next().await? {
                    if pattern.matches(object.location.as_ref()) {
                        found.push(object);
                    }
                }
            } else if let (false, Some(name)) = (is_last, segment.literal()) {
                below.push(Path::parse(format!("{folder}/{name}"))?);
            } else {
                let level = store.list_with_delimiter(prefix).await?;
                match is_last {
                    true => found.extend(level.objects.into_iter().filter(|object| matches(&object.location))),
                    false => below.extend(level.common_prefixes.into_iter().filter(|path| matches(path))),
                }
            }
        }
        folders = below;
    }
    Ok(found)
}

type Chunks = mpsc::Receiver<object_store::Result<Vec<u8>>>;

/// Reads an object from some byte on.
pub(super) struct Download {
    object: Object,
    listed: Listed,
    /// What is downloaded next begins here.
    next: u64,
    chunks: Option<Chunks>,
    chunk: Cursor<Vec<u8>>,
}

impl Download {
    /// Begins with a range, in one request; what the reader wants behind it is got in further ones.
    pub(super) fn open(url: &str, listed: &Listed, range: Range<u64>, options: &StoreOptions) -> io::Result<Self> {
        let object = Object::of(url, options)?;
        let mut download =
            Self { object, listed: listed.clone(), next: range.start, chunks: None, chunk: Cursor::default() };
        download.request(range.end)?;
        Ok(download)
    }

    fn request(&mut self, end: u64) -> io::Result<()> {
        let Object { store, path } = &self.object;
        let (store, path) = (Arc::clone(store), path.clone());
        // Not every web server knows ranges.
        let range = (self.next > 0 || end < self.listed.size).then_some(GetRange::Bounded(self.next..end));
        let options = GetOptions { range, ..GetOptions::default() };
        let result = wait(async move { store.get_opts(&path, options).await })?.map_err(problem)?;
        let tags = self.listed.tag.as_ref().zip(result.meta.e_tag.as_deref().map(plain_tag));
        if result.meta.size != self.listed.size || tags.is_some_and(|(listed, found)| *listed != found) {
            return Err(FileProblem::Changed { listed: self.listed.size, found: result.meta.size }.into());
        }
        let (send, receive) = mpsc::channel(AHEAD);
        event_loop()?.spawn(pump(result.into_stream(), send));
        self.next = end;
        self.chunks = Some(receive);
        Ok(())
    }

    /// Waits for the next chunk of this request; `None` at its end.
    fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(mut chunks) = self.chunks.take() else { return Ok(None) };
        let chunk = match chunks.try_recv() {
            Ok(chunk) => Some(chunk),
            Err(mpsc::error::TryRecvError::Disconnected) => None,
            Err(mpsc::error::TryRecvError::Empty) => {
                let (chunk, back) = wait(async move { (chunks.recv().await, chunks) })?;
                chunks = back;
                chunk
            }
        };
        let chunk = chunk.transpose().map_err(problem)?;
        self.chunks = chunk.is_some().then_some(chunks);
        Ok(chunk)
    }
}

/// Moves a download to its reader; ends when nobody reads it.
async fn pump(
    mut stream: BoxStream<'static, object_store::Result<bytes::Bytes>>,
    to: mpsc::Sender<object_store::Result<Vec<u8>>>,
) {
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        let next = tokio::select! {
            next = stream.next() => next,
            // Also while nothing comes.
            () = to.closed() => return,
        };
        match next {
            Some(Ok(bytes)) => {
                chunk.extend_from_slice(&bytes);
                if chunk.len() >= CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK));
                    if to.send(Ok(full)).await.is_err() {
                        return;
                    }
                }
            }
            Some(Err(e)) => return drop(to.send(Err(e)).await),
            None if chunk.is_empty() => return,
            None => return drop(to.send(Ok(chunk)).await),
        }
    }
}

impl Read for Download {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.chunk.read(buf)?;
            if got > 0 || buf.is_empty() {
                return Ok(got);
            }
            match self.receive()? {
                Some(chunk) => self.chunk = Cursor::new(chunk),
                None if self.next < self.listed.size => self.request((self.next + BEHIND).min(self.listed.size))?,
                None => return Ok(0),
            }
        }
    }
}

/// An object that is being written: in one request if it is small, else in parts. The store shows it when all is there.
pub(super) struct Upload {
    object: Object,
    part: Vec<u8>,
    parts: Option<Box<dyn MultipartUpload>>,
    /// The part before, on its way while this one is filled.
    sending: Option<tokio::task::JoinHandle<object_store::Result<()>>>,
}

impl Upload {
    pub(super) fn create(url: &str, options: &StoreOptions) -> io::Result<Self> {
        Ok(Self { object: Object::of(url, options)?, part: Vec::new(), parts: None, sending: None })
    }

    fn send_part(&mut self) -> io::Result<()> {
        self.settle()?;
        let Object { store, path } = &self.object;
        let (store, path) = (Arc::clone(store), path.clone());
        let parts = match &mut self.parts {
            Some(parts) => parts,
            none => none.insert(wait(async move { store.put_multipart(&path).await })?.map_err(problem)?),
        };
        let sending = parts.put_part(std::mem::take(&mut self.part).into());
        self.sending = Some(event_loop()?.spawn(sending));
        Ok(())
    }

    /// Waits until the part before has arrived.
    fn settle(&mut self) -> io::Result<()> {
        match self.sending.take() {
            Some(sending) => Ok(wait(sending)?.map_err(io::Error::other)?.map_err(problem)?),
            None => Ok(()),
        }
    }
}

impl Write for Upload {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let some = buf.len().min(PART - self.part.len());
        self.part.extend_from_slice(&buf[..some]);
        if self.part.len() == PART {
            self.send_part()?;
        }
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink for Upload {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if self.parts.is_none() {
            let Object { store, path } = &self.object;
            let (store, path) = (Arc::clone(store), path.clone());
            let payload = std::mem::take(&mut self.part);
            wait(async move { store.put(&path, payload.into()).await })?.map_err(problem)?;
            return Ok(());
        }
        if !self.part.is_empty() {
            self.send_part()?;
        }
        self.settle()?;
        if let Some(mut parts) = self.parts.take() {
            let (done, parts) = wait(async move { (parts.complete().await, parts) })?;
            if let Err(e) = done {
                self.parts = Some(parts);
                return Err(problem(e).into());
            }
        }
        Ok(())
    }
}

impl Drop for Upload {
    /// Parts that never become an object would be kept, and paid for.
    fn drop(&mut self) {
        let Some(mut parts) = self.parts.take() else { return };
        let sending = self.sending.take();
        let (send, receive) = sync_channel::<()>(0);
        let Ok(event_loop) = event_loop() else { return };
        event_loop.spawn(async move {
            if let Some(sending) = sending {
                sending.abort();
                let _ = sending.await;
            }
            if let Err(e) = parts.abort().await {
                log::warn!("an upload that failed could not be aborted: {e}");
            }
            drop(send);
        });
        // Also if the task is cancelled: its worker may end soon.
        let _ = receive.recv_timeout(Duration::from_secs(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> (String, String) {
        StorePlace::of(url).map_or_else(|e| (e.to_string(), String::new()), |place| (place.base, place.key))
    }

    #[test]
    fn urls_are_taken_apart() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(place("s3://bucket/a%20b/c d.txt"), pair("s3://bucket", "a%20b/c d.txt"));
        assert_eq!(place("s3://bucket"), pair("s3://bucket", ""));
        assert_eq!(place("http://host:80/a/b.txt"), pair("http://host", "a/b.txt"));
        assert_eq!(place("https://host/a%20b.txt"), pair("https://host", "a b.txt"));
        assert_eq!(place("https://host/a.txt?v=2"), pair("https://host/a.txt?v=2", ""));
        assert_eq!(place("https://host/a//b.txt"), pair("https://host/a//b.txt", ""));
        assert!(place("s3:///key").0.contains("bucket"));
    }

    #[test]
    fn unknown_options_are_refused() {
        let options = StoreOptions::from([("colour".to_string(), "red".to_string())]);
        for url in ["s3://bucket/key", "gs://bucket/key", "az://container/key", "http://host/key"] {
            let refused = Object::of(url, &options).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(refused.contains("`colour` is not an option"), "{url}: {refused}");
        }
    }
}
