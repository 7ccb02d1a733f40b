//! `deploy/kubernetes/`.

use serde_json::Value;

use crate::{deploy_files, strings, with, yaml};

/// Every object of the Kubernetes files.
pub fn objects() -> Vec<Value> {
    let files = deploy_files();
    let ours = files
        .iter()
        .filter(|path| path.starts_with("deploy/kubernetes/") && !path.ends_with("kustomization.yaml"));
    ours.flat_map(|path| yaml(path)).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = objects.iter().find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

#[test]
fn kubernetes_has_what_the_document_shows() {
    let objects = objects();
    let consumer = object(&objects, "Deployment", "plantd-metric-consumer");
    assert_eq!(consumer["apiVersion"], "apps/v1");
    assert_eq!(consumer["spec"]["replicas"], 2);
    assert_eq!(consumer["spec"]["selector"]["matchLabels"]["app"], "plantd-metric-consumer");
    let container = with(&consumer["spec"]["template"]["spec"]["containers"], "name", "metric");
    assert_eq!(container["image"], "plantd-metric:latest");
    assert_eq!(with(&container["env"], "name", "PLANTD_MODULE_METRIC_TYPE")["value"], "consumer");
    let storage = with(&container["env"], "name", "PLANTD_MODULE_METRIC_STORAGE_URL");
    assert_eq!(storage["value"], "http://influxdb:8086");

    let producer = object(&objects, "DaemonSet", "plantd-metric-producer");
    assert_eq!(producer["spec"]["selector"]["matchLabels"]["app"], "plantd-metric-producer");
    let pod = &producer["spec"]["template"]["spec"];
    assert_eq!((&pod["hostNetwork"], &pod["hostPID"]), (&Value::Bool(true), &Value::Bool(true)));
    let container = with(&pod["containers"], "name", "metric");
    assert_eq!(with(&container["env"], "name", "PLANTD_MODULE_METRIC_TYPE")["value"], "producer");
    for (name, inside, outside) in [("proc", "/host/proc", "/proc"), ("sys", "/host/sys", "/sys")] {
        let mount = with(&container["volumeMounts"], "name", name);
        assert_eq!((&mount["mountPath"], &mount["readOnly"]), (&Value::from(inside), &Value::Bool(true)));
        assert_eq!(with(&pod["volumes"], "name", name)["hostPath"]["path"], outside);
    }
    let service = object(&objects, "Service", "plantd-metric-consumer");
    assert_eq!(service["spec"]["ports"][0]["port"], 8080);
}

/// Each container is confined, limited and probed; each selector finds its pods.
#[test]
fn kubernetes_pods_are_confined_and_probed() {
    let objects = objects();
    let mut pods = 0;
    for workload in objects.iter().filter(|o| o["kind"] == "Deployment" || o["kind"] == "DaemonSet") {
        pods += 1;
        let name = &workload["metadata"]["name"];
        let template = &workload["spec"]["template"];
        assert_eq!(workload["spec"]["selector"]["matchLabels"], template["metadata"]["labels"], "{name}");
        assert_eq!(template["spec"]["securityContext"]["runAsNonRoot"], true, "{name}");
        for container in template["spec"]["containers"].as_array().expect("a pod has containers") {
            let confined = &container["securityContext"];
            assert_eq!(confined["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(confined["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(confined["capabilities"]["drop"], serde_json::json!(["ALL"]), "{name}");
            for resource in ["requests", "limits"] {
                assert!(container["resources"][resource]["memory"].is_string(), "{name} has no {resource}");
            }
            for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
                let probe = &container[probe];
                let by_command = strings(&probe["exec"]["command"]) == ["plantd-metric", "--check-health"];
                assert!(
                    by_command || probe["httpGet"]["path"] == path,
                    "{name}: expected {path}, found {probe}"
                );
            }
        }
    }
    assert_eq!(pods, 3, "expected bus, consumer and producer");
    for service in objects.iter().filter(|o| o["kind"] == "Service") {
        let app = service["spec"]["selector"]["app"].as_str().expect("a Service selects an app");
        let workload = object(&objects, "Deployment", app);
        let ports = workload["spec"]["template"]["spec"]["containers"][0]["ports"].as_array().expect("ports");
        for port in service["spec"]["ports"].as_array().expect("a Service has ports") {
            let target = if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] };
            let found = ports.iter().any(|p| p["name"] == *target || p["containerPort"] == *target);
            assert!(found, "{app} has no port {target}");
        }
    }
}

#[test]
fn kustomization_names_every_file() {
    let listed = &yaml("deploy/kubernetes/kustomization.yaml")[0]["resources"];
    let mut listed: Vec<String> =
        strings(listed).iter().map(|name| format!("deploy/kubernetes/{name}")).collect();
    listed.push("deploy/kubernetes/kustomization.yaml".to_owned());
    listed.sort();
    let files = deploy_files();
    assert_eq!(listed, files.into_iter().filter(|p| p.starts_with("deploy/kubernetes/")).collect::<Vec<_>>());
}
