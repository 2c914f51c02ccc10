//! A web server that embeds a client: each request runs a small graph, and no request can take the others down.
//!
//! ```text
//! cargo run --release --example service -- --port 8080
//! curl 'http://127.0.0.1:8080/sum?n=1000000'
//! curl 'http://127.0.0.1:8080/slow?ms=60000&deadline_ms=500'     # 504 after half a second
//! curl 'http://127.0.0.1:8080/health'
//! cargo run --release --example service -- --self-test            # starts a server, asks it everything, and ends
//! ```
//!
//! - **One client for all requests.** It is cheap to clone and used from every thread of the server.
//! - **Deadline.** A request that takes too long is answered with 504. The future of its result is dropped, and that
//!   cancels the work.
//! - **Disconnect.** When a browser goes away, the server drops the handler: the same thing, for nothing.
//! - **Overload.** Only so many graphs are in flight at once. Beyond that the answer is 503 with `Retry-After`, at once,
//!   instead of a queue in which everybody times out.
//! - **End.** SIGTERM or Ctrl-C: no more connections are taken, the requests that are there are answered, for which there are
//!   ten seconds, and then the workers are stopped.

#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "support/mod.rs"]
mod support;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::RETRY_AFTER;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde::Deserialize;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use support::Look;
use swath::{Client, Delayed, delayed, try_delayed};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many seconds requests have when the service is told to stop.
const SHUTDOWN: u64 = 10;

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

// ---- The work -----------------------------------------------------------------------------------------------------

fn add_up(from: u64, to: u64) -> u64 {
    (from..to).sum()
}

/// The sum of the numbers below `n`, in eight parts.
fn sum(n: u64) -> Delayed<u64> {
    (0..8).map(|part| delayed(add_up).call(n * part / 8, n * (part + 1) / 8)).sum()
}

/// Something that takes its time. Code that runs long asks now and then whether anybody still wants the result.
fn work_for(ms: u64) -> std::result::Result<u64, String> {
    let started = Instant::now();
    while started.elapsed() < Duration::from_millis(ms) {
        if swath::cancelled() {
            return Err("nobody waits any more".to_string());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(ms)
}

// ---- The server ---------------------------------------------------------------------------------------------------

/// Graphs in flight at once: a few for each executor thread, so that none of them is idle and nobody waits long.
const MAX_IN_FLIGHT: usize = 8;

struct Service {
    client: Client,
    places: Semaphore,
}

/// Why a request has no result.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("too many requests in flight, try again later")]
    Overloaded,
    #[error("no result within {0:?}")]
    TooLate(Duration),
    #[error("{0}")]
    BadRequest(&'static str),
    #[error(transparent)]
    Failed(#[from] swath::Error),
}

impl actix_web::ResponseError for Refused {
    fn error_response(&self) -> HttpResponse {
        let mut response = match self {
            Self::Overloaded => {
                let mut response = HttpResponse::ServiceUnavailable();
                response.insert_header((RETRY_AFTER, "1"));
                response
            }
            Self::TooLate(_) => HttpResponse::GatewayTimeout(),
            Self::BadRequest(_) => HttpResponse::BadRequest(),
            Self::Failed(_) => HttpResponse::InternalServerError(),
        };
        response.body(format!("{self}\n"))
    }
}

impl Service {
    fn new(client: Client) -> Self {
        Self { client, places: Semaphore::new(MAX_IN_FLIGHT) }
    }

    fn enter(&self) -> std::result::Result<SemaphorePermit<'_>, Refused> {
        self.places.try_acquire().map_err(|_| Refused::Overloaded)
    }

    /// Runs one graph for one request.
    ///
    /// Whether the deadline passes or the server drops this because the browser is gone: the future of the result and
    /// the place among the graphs in flight go with it, and that is all there is to clean up.
    async fn run(&self, graph: Delayed<u64>, deadline: Deadline) -> Answer {
        let _place = self.enter()?;
        match tokio::time::timeout(deadline.time(), self.client.compute_async(&graph)).await {
            Ok(value) => Ok(format!("{}\n", value?)),
            Err(_) => Err(Refused::TooLate(deadline.time())),
        }
    }
}

/// `deadline_ms=…` of a request.
#[derive(Clone, Copy, Deserialize)]
struct Deadline {
    #[serde(rename = "deadline_ms")]
    ms: Option<u64>,
}

impl Deadline {
    fn time(self) -> Duration {
        Duration::from_millis(self.ms.unwrap_or(2_000).min(60_000))
    }
}

#[derive(Deserialize)]
struct Sum {
    n: u64,
}

#[derive(Deserialize)]
struct Slow {
    ms: u64,
}

type Answer = std::result::Result<String, Refused>;

#[actix_web::get("/sum")]
async fn get_sum(service: web::Data<Service>, query: web::Query<Sum>, deadline: web::Query<Deadline>) -> Answer {
    if query.n > 1_000_000_000 {
        return Err(Refused::BadRequest("n is at most 1000000000"));
    }
    service.run(sum(query.n), *deadline).await
}

#[actix_web::get("/slow")]
async fn get_slow(service: web::Data<Service>, query: web::Query<Slow>, deadline: web::Query<Deadline>) -> Answer {
    service.run(try_delayed(work_for).call(query.ms), *deadline).await
}

/// Answers whatever the load: it needs no place.
#[actix_web::get("/health")]
async fn get_health(service: web::Data<Service>) -> String {
    let in_flight = MAX_IN_FLIGHT - service.places.available_permits();
    format!("{}\n{in_flight} graph(s) in flight\n", service.client)
}

fn serve(client: Client, port: u16) -> Result<(Server, SocketAddr)> {
    let service = web::Data::new(Service::new(client));
    let server = HttpServer::new(move || {
        App::new().app_data(service.clone()).service(get_sum).service(get_slow).service(get_health)
    })
    .workers(2)
    // Without this the server sees a browser go away only when it has an answer to write.
    .h1_allow_half_closed(false)
    .shutdown_timeout(SHUTDOWN)
    .bind(("127.0.0.1", port))
    .map_err(|e| format!("cannot listen on port {port}: {e}"))?;
    let address = *server.addrs().first().ok_or("the server has no address")?;
    Ok((server.run(), address))
}

// ---- The program --------------------------------------------------------------------------------------------------

const USAGE: &str = "usage: service [--port PORT] [--self-test]
  --port       port on 127.0.0.1; 0 (default) takes a free one and prints it
  --self-test  asks the server everything it should be able to answer, and ends
  --progress, --record FILE, --report FILE, --graph FILE   to see what it does";

#[derive(Default)]
struct Options {
    port: u16,
    self_test: bool,
    look: Look,
}

impl Options {
    fn parse() -> Result<Self> {
        use lexopt::prelude::*;
        let (look, args) = Look::from_args()?;
        let mut options = Self { look, ..Self::default() };
        let mut parser = lexopt::Parser::from_args(args);
        while let Some(arg) = parser.next()? {
            match arg {
                Long("port") => options.port = parser.value()?.parse()?,
                Long("self-test") => options.self_test = true,
                Short('h') | Long("help") => {
                    println!("{USAGE}");
                    std::process::exit(0);
                }
                _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
            }
        }
        Ok(options)
    }
}

async fn run() -> Result {
    let options = Options::parse()?;
    let client = options.look.client(Client::builder().workers(2).threads(1).memory_limit("512MB"))?;
    let report = options.look.report(&client);
    options.look.draw(&sum(1_000_000))?;
    println!("{client}");
    let (server, address) = serve(client.clone(), options.port)?;
    println!("listening on http://{address}");
    if options.self_test {
        // The test blocks while it waits for answers, so it runs on a thread of its own.
        let handle = server.handle();
        let test = std::thread::spawn(move || test_and_stop(address, handle));
        server.await?;
        test.join().map_err(|_| "the self-test panicked")??;
        println!("all right");
        return Ok(());
    }
    // SIGTERM and SIGINT: the server takes no more connections, and waits for the requests that are there. Workers get no
    // signal that is sent to the program's group, so their work goes on meanwhile.
    server.await?;
    drop(report);
    client.shutdown_async().await;
    println!("stopped");
    Ok(())
}

#[actix_web::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service: {error}");
            ExitCode::FAILURE
        }
    }
}

// ---- The self-test ------------------------------------------------------------------------------------------------

fn test_and_stop(address: SocketAddr, server: ServerHandle) -> Result {
    let result = self_test(Http(address));
    // The server stops when this request to stop is made; its own future ends when it has stopped.
    drop(server.stop(true));
    result
}

fn self_test(http: Http) -> Result {
    test_answers(http)?;
    test_concurrent_requests(http)?;
    test_deadline(http)?;
    test_disconnect(http)?;
    test_overload(http)
}

fn test_answers(http: Http) -> Result {
    http.get("/sum?n=1000&deadline_ms=60000")?.expect(200, "499500\n")?;
    http.get("/slow?ms=1&deadline_ms=60000")?.expect(200, "1\n")?;
    http.get("/sum?n=many")?.expect_status(400)?;
    http.get("/sum?n=1000000001")?.expect_status(400)?;
    let health = http.get("/health")?;
    health.expect_status(200)?;
    if !health.body.contains("2 workers") {
        return Err(format!("/health does not describe the client: {}", health.body).into());
    }
    println!("answers: right");
    Ok(())
}

fn test_concurrent_requests(http: Http) -> Result {
    let ask = move |first: u64| -> Result {
        for n in (first..first + 100).step_by(4) {
            http.get(&format!("/sum?n={n}&deadline_ms=60000"))?.expect(200, &format!("{}\n", n * (n - 1) / 2))?;
        }
        Ok(())
    };
    let threads: Vec<_> = (1..=4).map(|first| std::thread::spawn(move || ask(first))).collect();
    for thread in threads {
        thread.join().map_err(|_| "a thread of the self-test panicked")??;
    }
    println!("100 requests from four threads: right");
    Ok(())
}

fn test_deadline(http: Http) -> Result {
    let started = Instant::now();
    http.get("/slow?ms=60000&deadline_ms=100")?.expect_status(504)?;
    if started.elapsed() > Duration::from_secs(50) {
        return Err(format!("the deadline of 100 ms was answered after {:?}", started.elapsed()).into());
    }
    println!("a deadline that passes: 504");
    Ok(())
}

/// Two requests keep both workers busy for a minute. When their browsers go away, the workers are free again.
fn test_disconnect(http: Http) -> Result {
    let browsers = http.leave_waiting(2)?;
    http.wait_for_in_flight(2)?;
    drop(browsers);
    http.wait_for_in_flight(0)?;
    http.get("/sum?n=100&deadline_ms=20000")?.expect(200, "4950\n")?;
    println!("browsers that go away: their work is cancelled");
    Ok(())
}

fn test_overload(http: Http) -> Result {
    let browsers = http.leave_waiting(MAX_IN_FLIGHT)?;
    http.wait_for_in_flight(MAX_IN_FLIGHT)?;
    let refused = http.get("/sum?n=100")?;
    refused.expect_status(503)?;
    if !refused.head.to_ascii_lowercase().contains("\r\nretry-after: 1") {
        return Err(format!("the 503 has no Retry-After: {}", refused.head).into());
    }
    http.get("/health")?.expect_status(200)?;
    drop(browsers);
    http.wait_for_in_flight(0)?;
    http.get("/sum?n=100&deadline_ms=20000")?.expect(200, "4950\n")?;
    println!("overload: 503 with Retry-After, and back to work afterwards");
    Ok(())
}

/// As much HTTP as the self-test needs.
#[derive(Clone, Copy)]
struct Http(SocketAddr);

struct Response {
    request: String,
    status: u16,
    head: String,
    body: String,
}

impl Http {
    fn send(self, path: &str) -> Result<std::net::TcpStream> {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(self.0)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
        Ok(stream)
    }

    fn get(self, path: &str) -> Result<Response> {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut self.send(path)?, &mut text).map_err(|e| format!("{path}: {e}"))?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: no answer, but {text:?}"))?;
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        Ok(Response {
            request: path.to_string(),
            status: status.ok_or_else(|| format!("{path}: no status in {head:?}"))?,
            head: head.to_string(),
            body: body.to_string(),
        })
    }

    /// Requests that will not be answered for a long time.
    fn leave_waiting(self, count: usize) -> Result<Vec<std::net::TcpStream>> {
        (0..count).map(|_| self.send("/slow?ms=60000&deadline_ms=60000")).collect()
    }

    fn wait_for_in_flight(self, count: usize) -> Result {
        let wanted = format!("\n{count} graph(s) in flight");
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(50) {
            if self.get("/health")?.body.contains(&wanted) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(format!("there should be{wanted}, but: {}", self.get("/health")?.body).into())
    }
}

impl Response {
    fn expect_status(&self, status: u16) -> Result {
        if self.status != status {
            let Self { request, status: got, body, .. } = self;
            return Err(format!("{request}: got {got} ({}), wanted {status}", body.trim_end()).into());
        }
        Ok(())
    }

    fn expect(&self, status: u16, body: &str) -> Result {
        self.expect_status(status)?;
        if self.body != body {
            return Err(format!("{}: got {:?}, wanted {body:?}", self.request, self.body).into());
        }
        Ok(())
    }
}
