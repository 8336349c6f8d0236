use super::*;

const HEAD: &str = "apiVersion: appmesh.k8s.aws/v1beta2";

fn of(text: &str) -> Report {
    let texts = BTreeMap::from([("a.yaml".to_owned(), Ok(text.to_owned()))]);
    examine(&texts, &Placeholders::default(), AcmMap::default()).0
}

fn effects(resource: &Resource) -> Vec<(&str, &str)> {
    let fields = resource.fields.iter();
    fields
        .map(|field| {
            (
                field.path.trim_start_matches("spec."),
                field.effect.as_str(),
            )
        })
        .collect()
}

/// Each field that is set is named with its effect, all unknown ones at once, and the outcome of a
/// resource is that of the control plane.
#[test]
fn every_field_is_named() {
    let text = format!(
        "{HEAD}\nkind: Mesh\nmetadata: {{name: m}}\nspec: {{egressFilter: {{type: DROP_ALL}}}}\n---\n\
         {HEAD}\nkind: VirtualNode\nmetadata: {{name: jazz, namespace: prod}}\n\
         spec: {{meshRef: {{name: m, uid: u}}, listeners: [{{portMapping: {{port: 1, protocol: http}}, tsl: {{}}, \
         healthcheck: {{path: /}}}}], podSelector: {{matchLabels: {{a.b/c: d}}}}, backends: []}}\n---\n\
         {HEAD}\nkind: VirtualService\nmetadata: {{name: calls, namespace: prod}}\n\
         spec: {{provider: {{virtualNode: {{virtualNodeRef: {{name: jazz}}}}}}}}\n---\n\
         kind: Deployment\napiVersion: apps/v1\n"
    );
    let report = of(&text);
    assert!(report.refuses());
    let outcomes: Vec<_> = report
        .resources
        .iter()
        .map(|one| (&*one.kind, one.outcome))
        .collect();
    assert_eq!(
        outcomes,
        [
            ("Mesh", Outcome::Served),
            ("VirtualNode", Outcome::Refused),
            ("VirtualService", Outcome::Refused),
        ]
    );
    let node = &report.resources[1];
    assert_eq!(
        effects(node),
        [
            ("backends", "served"),
            ("listeners[0].healthcheck.path", "refused"),
            ("listeners[0].portMapping.port", "served"),
            ("listeners[0].portMapping.protocol", "served"),
            ("listeners[0].tsl", "refused"),
            ("meshRef.name", "served"),
            ("meshRef.uid", "no effect"),
            ("podSelector.matchLabels.a.b/c", "served"),
        ]
    );
    let whys =
        ["healthcheck", "tsl"].map(|field| format!("spec.listeners[0].{field} is not served"));
    assert_eq!(node.refused, whys);
    assert_eq!(
        report.resources[2].refused,
        ["spec.provider.virtualNode: the VirtualNode jazz is refused itself"]
    );
    assert_eq!(report.others["Deployment"], 1);
}

/// A placeholder without a value is no name, and a file that is no YAML is said to be none.
#[test]
fn what_cannot_be_read_is_named() {
    let report = of(&format!(
        "{HEAD}\nkind: Mesh\nmetadata: {{name: m}}\nspec:\n  awsName: ${{MESH_NAME}}\n"
    ));
    let mesh = &report.resources[0];
    assert_eq!(
        mesh.refused,
        ["spec.awsName: the placeholder ${MESH_NAME} has no value"]
    );
    assert_eq!(mesh.outcome, Outcome::ServedInPart);
    let report = of("{");
    assert_eq!(report.unreadable.len(), 1);
    assert!(!report.refuses());
}
