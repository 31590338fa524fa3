//! What a peer with good credentials can do with bad manners.

use super::*;

#[tokio::test]
async fn a_frame_out_of_bounds_ends_the_session() {
    let lab = Lab::new("lab");
    let (authority, _edge) = pair(&lab, |_| ());
    let nve = lab.credentials(Role::Nve, "b");
    for (count, length) in [(1, MAX_FRAME as u32 + 1), (2, u32::MAX), (3, 0)] {
        let accepted = async { authority.accept().await.unwrap() };
        let (mut here, (connection, mut send, _receive)) =
            tokio::join!(accepted, raw(&authority, &nve));
        send.write_all(&length.to_be_bytes()).await.unwrap();
        assert_eq!(soon(here.recv()).await, None);
        let closed = Closed::from(soon(connection.closed()).await);
        assert!(
            matches!(closed, Closed::Peer(Code::Protocol, _)),
            "{closed}"
        );
        assert_eq!(authority.stats().closed_protocol, count);
    }
}

#[tokio::test]
async fn only_one_stream_can_be_opened_and_nothing_else_sent() {
    let lab = Lab::new("lab");
    let (authority, _edge) = pair(&lab, |_| ());
    let nve = lab.credentials(Role::Nve, "b");
    let accepted = async { authority.accept().await.unwrap() };
    let (_here, (connection, _send, _receive)) = tokio::join!(accepted, raw(&authority, &nve));
    let little = Duration::from_millis(200);
    assert!(timeout(little, connection.open_bi()).await.is_err());
    assert!(timeout(little, connection.open_uni()).await.is_err());
    assert_eq!(connection.max_datagram_size(), None);
}

#[tokio::test]
async fn who_does_not_open_the_stream_gets_no_session() {
    let lab = Lab::new("lab");
    let quick = |setup: &mut Setup| setup.limits.handshake_timeout = Duration::from_millis(500);
    let authority = endpoint(lab.credentials(Role::Ima, "i"), &[Role::Nve], quick);
    let nve = lab.credentials(Role::Nve, "b");
    let quinn = quinn::Endpoint::client(LOOPBACK).unwrap();
    let connecting = quinn.connect_with(raw_config(&nve, None), address(&authority), "192.0.2.1");
    let connection = connecting.unwrap().await.unwrap();
    until("it counts as unfinished", || {
        authority.stats().half_open == 1
    })
    .await;
    soon(connection.closed()).await;
    until("it is given up", || authority.stats().half_open == 0).await;
    assert_eq!(
        (
            authority.stats().failed_timeout,
            authority.stats().established
        ),
        (1, 0)
    );
}

/// A peer that reads nothing costs no more than queue and windows, and then its session.
#[tokio::test]
async fn a_slow_peer_is_bounded_and_then_left() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |setup| {
        setup.limits.queue = 128 * 1024;
        setup.limits.send_window = 64 * 1024;
        setup.limits.receive_window = 64 * 1024;
        setup.limits.stall = Duration::from_millis(800);
    });
    let (here, there) = meet(&authority, &edge).await;
    let (handle, begun) = (here.handle(), std::time::Instant::now());
    let mut taken = 0;
    loop {
        match handle.try_send(Bytes::from(vec![0; 1000])) {
            Ok(()) => taken += 1000,
            Err(SendError::Closed) => break,
            Err(error) => {
                assert_eq!(error, SendError::Full);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        assert!(begun.elapsed() < SOON, "it is still open");
        tokio::task::yield_now().await;
    }
    // Queue, what is on its way, what is received and not read, and the frame in between.
    assert!(
        (150_000..=128 * 1024 + 2 * 64 * 1024 + 2000).contains(&taken),
        "{taken}"
    );
    assert!(begun.elapsed() >= Duration::from_millis(800));
    assert_eq!(authority.stats().closed_slow, 1);
    let closed = soon(there.closed()).await;
    assert_eq!(closed, Closed::Peer(Code::Slow, "too slow".to_owned()));
    // Who waits for room is told as well.
    assert_eq!(
        handle.send(Bytes::from_static(b"x")).await,
        Err(SendError::Closed)
    );
}

/// One who is slow for a moment loses nothing, and the sender waits for them.
#[tokio::test]
async fn who_waits_for_room_gets_it_when_the_peer_reads() {
    let lab = Lab::new("lab");
    let (authority, edge) = pair(&lab, |setup| {
        setup.limits.queue = 128 * 1024;
        setup.limits.receive_window = 64 * 1024;
    });
    let (here, mut there) = meet(&authority, &edge).await;
    let handle = here.handle();
    let sender = tokio::spawn(async move {
        for n in 0..200_u8 {
            handle.send(Bytes::from(vec![n; 10_000])).await.unwrap();
        }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!sender.is_finished());
    for n in 0..200_u8 {
        assert_eq!(soon(there.recv()).await.unwrap(), vec![n; 10_000]);
    }
    sender.await.unwrap();
}
