//! Requests to a gateway: two passes of an Envoy of App Mesh, one of a Gateway.

use mesh_convert::Channel;

use crate::envoy::Envoy;
use crate::model::{Gateway, RegexPaths};
use crate::request::get;
use crate::schemas::read_strictly;
use crate::{converted, read};

const EDGE: &str = include_str!("../fixtures/edge.yaml");

/// (host, path, header `beta`, targets, host and path at them).
#[test]
fn requests_go_through_gateways_as_before() {
    let (report, meshes) = read(EDGE);
    assert!(!report.refuses(), "{report:?}");
    let conversion = converted(EDGE, Channel::Experimental);
    read_strictly(&conversion.documents, Channel::Experimental);
    let envoy = Envoy::of_gateway(&meshes, "mesh/m/virtualGateway/edge_prod");
    let (shop, sub, other) = ("shop.example.com", "a.example.com", "other.org");
    let rest = "books 9, new 1";
    for (host, path, beta, targets, at) in [
        (shop, "/shop", "0", rest, "shop.prod/"),
        (shop, "/shop/", "0", rest, "shop.prod/"),
        (shop, "/shop/a", "0", rest, "shop.prod/a"),
        (shop, "/shop/a", "1", "new 1", "shop.prod/a"),
        // The router's first route.
        (shop, "/shop/cart", "1", "cart 1", "shop.prod/cart"),
        (shop, "/shop/cart/7", "0", "cart 1", "shop.prod/cart/7"),
        (sub, "/shop/a", "0", "no route", ""),
        (other, "/shop/a", "0", "no route", ""),
        (shop, "/cart/1", "1", "cart 1", "shop.example.com/cart/1"),
        (sub, "/cart", "0", "cart 1", "a.example.com/cart"),
        (other, "/cart", "0", "no route", ""),
        (other, "/old", "0", "cart 1", "shop.prod/cart/"),
        (other, "/old/2", "1", "cart 1", "shop.prod/cart/2"),
        // By priority, though another route is more specific.
        (shop, "/old/er/x", "0", "cart 1", "shop.prod/cart/er/x"),
        (sub, "/fixed", "1", "cart 1", "shop.prod/cart/1"),
        (other, "/fixed/a", "0", "no route", ""),
        (shop, "/part/x/1", "0", "new 1", "part.prod/x/1"),
        // The gateway has a route, and the router has none.
        (sub, "/part/y", "0", "no route", ""),
    ] {
        let request = get(path, &[("beta", beta)], &[]);
        let of_envoy = envoy.forwarded(host, &request);
        let expected = (targets.to_owned(), at.to_owned());
        assert_eq!(of_envoy, expected, "Envoy: {host}{path}, beta {beta}");
        let gateway = Gateway::of_listener(
            &conversion.documents,
            ("prod/edge", "http-8088"),
            host,
            RegexPaths::Last,
        );
        let found = gateway.forwarded(host, &request);
        assert_eq!(found, of_envoy, "{host}{path}, beta {beta}");
    }
}
