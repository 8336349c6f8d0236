//! What the chart puts into a namespace of Istio is what `meshmeter-mesh render` prints for it.

use std::process::Command;

use tests_deploy::helm::chart;
use tests_manifests::Object;
use tests_support::artifacts;

/// Values over `mesh: istio`, and flags of `render` that mean the same.
const CASES: [(&str, &[&str]); 4] = [
    ("", &["--for=istio"]),
    ("istio: {api: WasmPlugin}", &["--for=istio-wasmplugin"]),
    (
        "istio: {direction: outbound, selector: {app: jazz, version: v1}}",
        &[
            "--for=istio",
            "--direction=outbound",
            "--selector=app=jazz",
            "--selector=version=v1",
        ],
    ),
    (
        "istio: {api: WasmPlugin, direction: both, pluginConfig: {responses: code, max_series: 100, dimensions: [cluster]}}",
        &[
            "--for=istio-wasmplugin",
            "--direction=both",
            "--responses=code",
            "--dimensions=cluster",
            "--plugin-config={\"max_series\":100}",
        ],
    ),
];

fn of_istio(objects: Vec<Object>) -> Vec<Object> {
    let ours = |object: &Object| object.api_version.contains("istio.io/");
    let mut objects: Vec<Object> = objects.into_iter().filter(ours).collect();
    objects.sort_by_key(|object| (object.kind.clone(), object.name.clone()));
    objects
}

#[test]
fn the_chart_and_render_agree() {
    for (values, flags) in CASES {
        let chart = chart(&format!("mesh: istio\nmeshedNamespaces: [shop]\n{values}")).unwrap();
        let aggregator = |nth: u8| {
            format!(
                "--aggregator=meshmeter-{nth}.meshmeter-ingest.meshmeter.svc.cluster.local:7470"
            )
        };
        let image = format!(
            "--module-image=registry.example.com/meshmeter/filter:{}",
            env!("CARGO_PKG_VERSION")
        );
        let mut render = Command::new(artifacts::mesh().unwrap());
        render.args(["render", "--namespace=shop", &image]);
        render.args([aggregator(0), aggregator(1)]).args(flags);
        let output = render.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{flags:?}: {said}");
        let printed = String::from_utf8(output.stdout).unwrap();
        let printed = tests_manifests::check(&printed).unwrap();
        assert_eq!(of_istio(chart), of_istio(printed), "{values}");
    }
}
