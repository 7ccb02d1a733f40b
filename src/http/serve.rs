//! Connections: as many as allowed, each with time-outs for its head, its requests and its answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::error::ApiError;
use super::patience::Impatient;
use super::{App, pack, router};

/// Bytes of a request's head, and of what hyper reads ahead.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Serves the API until `stop`, then lets requests under way finish for up to `grace`.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: CancellationToken, grace: Duration) {
    let config = app.config.clone();
    let telemetry = app.telemetry.clone();
    let routes = router(app);
    let seats = Arc::new(Semaphore::new(config.connections_max));
    let graceful = GracefulShutdown::new();
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(config.header_timeout).max_buf_size(HEAD_BYTES_MAX);
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, mostly: give others a moment to go.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else {
            telemetry.connections_refused.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let (routes, timeout, telemetry) = (routes.clone(), config.request_timeout, telemetry.clone());
        let compression = config.compression;
        let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            telemetry.http_requests.fetch_add(1, Ordering::Relaxed);
            answer(routes.clone(), request.map(axum::body::Body::new), timeout, compression)
        });
        let io = TokioIo::new(Impatient::new(stream, timeout));
        let connection = graceful.watch(server.serve_connection(io, service));
        tokio::spawn(async move {
            // A connection that breaks is its client's affair.
            let _ = connection.await;
            drop(seat);
        });
    }
    drop(listener);
    let _ = tokio::time::timeout(grace, graceful.shutdown()).await;
}

async fn answer(
    routes: Router,
    request: Request,
    timeout: Duration,
    compression: bool,
) -> Result<axum::response::Response, std::convert::Infallible> {
    let packs = compression && pack::is_accepted(request.headers());
    let answered = async {
        let response = routes.oneshot(request).await?;
        Ok(if packs { pack::gzip(response).await } else { response })
    };
    match tokio::time::timeout(timeout, answered).await {
        Ok(answered) => answered,
        Err(_) => {
            let detail = format!("expected the request to be done within {timeout:?}");
            let error = ApiError { status: hyper::StatusCode::REQUEST_TIMEOUT, error: "timeout", detail };
            Ok(error.into_response())
        }
    }
}
