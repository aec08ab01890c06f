use first_service::pb::{stock_client::StockClient, *};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{iter, wrappers::ReceiverStream};
use tonic::Code;

fn line(item: &str, quantity: i64) -> Option<Line> {
    Some(Line { item: item.into(), quantity })
}

fn batch(item: &str, quantity: i64, finish: bool) -> ReceiveDeliveryRequest {
    let lines = line(item, quantity).into_iter().collect();
    ReceiveDeliveryRequest { delivery_id: "delivery-1".into(), lines, finish }
}

#[tokio::test]
async fn every_mode_answers() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(first_service::serve(listener));
    let mut stock = StockClient::connect(url).await?;

    // Client streaming: two batches, one answer. A stream without `finish` books nothing.
    let ended = stock.receive_delivery(iter([batch("milk", 9, false)])).await;
    assert_eq!(ended.unwrap_err().code(), Code::Aborted);
    let delivery = [batch("tea", 10, false), batch("milk", 4, true)];
    let delivered = stock.receive_delivery(iter(delivery)).await?.into_inner();
    assert_eq!(delivered.last_sequence, 2);

    // Bidirectional streaming: the first message is in the channel before the call.
    let (picks, requests) = mpsc::channel(16);
    let pick = PickRequest { pick_id: "pick-1".into(), line: line("tea", -3) };
    picks.send(pick.clone()).await?;
    let mut confirmed = stock.pick(ReceiverStream::new(requests)).await?.into_inner();
    let first = confirmed.message().await?;
    assert_eq!(first, Some(PickResponse { pick_id: "pick-1".into(), sequence: 3 }));
    picks.send(pick).await?; // sent again, booked once
    assert_eq!(confirmed.message().await?, first);
    drop(picks); // half-close
    assert_eq!(confirmed.message().await?, None);

    // Unary.
    let quantity = stock.get_quantity(GetQuantityRequest { item: "tea".into() }).await?;
    assert_eq!(quantity.into_inner().quantity, 7);

    // Server streaming: what came after change 1.
    let after = WatchChangesRequest { after_sequence: 1 };
    let mut changes = stock.watch_changes(after).await?.into_inner();
    for expected in [line("milk", 4), line("tea", -3)] {
        assert_eq!(changes.message().await?.and_then(|change| change.line), expected);
    }
    Ok(())
}
