//! A server whose connections are on several threads.

use std::time::Duration;

use shared_proto::fourmodes::v1::MultiplyRequest;
use stack::Settings;
use test_support::{
    LONG_GRACE, Member, Server, multiplication_that_waits, refuses_connections, run, unread_quotes, until,
    within,
};
use tonic::Code;

async fn start(grace: Duration) -> Server {
    Server::with(Settings { workers: 3, grace, ..Settings::default() }.into()).await
}

#[test]
fn a_room_has_members_on_every_thread_and_all_are_told_of_its_end() {
    run(async {
        let server = start(LONG_GRACE).await;
        let mut members = Vec::new();
        for number in 0..6 {
            members.push(Member::joined(server.address, "lobby", &format!("member-{number}")).await);
        }
        members[0].post("good morning").await;
        for member in &mut members {
            member.hear_until("good morning").await;
        }
        server.begin_shutdown();
        for member in &mut members {
            assert_eq!(member.failure().await.code(), Code::Unavailable);
        }
        server.ended().await;
    });
}

#[test]
fn unary_calls_on_every_thread_finish() {
    run(async {
        let server = start(LONG_GRACE).await;
        let mut calls = Vec::new();
        for _ in 0..6 {
            calls.push(multiplication_that_waits(server.address).await);
        }
        server.begin_shutdown();
        until(async || refuses_connections(server.address).await).await;
        for (request, answer) in calls {
            assert!(!server.has_ended());
            request.send(MultiplyRequest { a: 6, b: 7 }).unwrap();
            assert_eq!(within(answer).await.unwrap().unwrap().product, 42);
        }
        server.ended().await;
    });
}

#[test]
fn the_grace_period_bounds_what_nobody_reads_on_every_thread() {
    run(async {
        let server = start(Duration::from_millis(300)).await;
        let mut streams = Vec::new();
        for _ in 0..4 {
            streams.push(unread_quotes(server.address).await);
        }
        server.begin_shutdown();
        server.ended().await;
        // With the server the threads are gone, and what they had open.
        drop(streams);
    });
}
