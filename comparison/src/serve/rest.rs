//! Multiply as JSON over HTTP/1.1.

use axum::{Json, Router, http::StatusCode, routing::post};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

#[derive(Debug, Deserialize)]
struct Factors {
    a: i64,
    b: i64,
}

#[derive(Debug, Serialize)]
struct Product {
    product: i64,
}

pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let listener = axum::serve::ListenerExt::tap_io(listener, |socket| {
        // Without it an answer may wait for the acknowledgement of the last one.
        let _ = socket.set_nodelay(true);
    });
    Ok(axum::serve(listener, Router::new().route("/multiply", post(multiply))).await?)
}

async fn multiply(Json(Factors { a, b }): Json<Factors>) -> Result<Json<Product>, StatusCode> {
    let product = a.checked_mul(b).ok_or(StatusCode::UNPROCESSABLE_ENTITY)?;
    Ok(Json(Product { product }))
}
