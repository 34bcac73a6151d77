//! How components talk to the API server: connection, informers, events, leader election.
