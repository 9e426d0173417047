//! How a service is reached, and what it may reach.

use kube::core::ResourceExt;

use super::MedicalService;
use crate::Platform;
use crate::labels::hospital_of;

/// Where people reach the service: its first route, or its name inside the hospital.
pub fn url(service: &MedicalService, platform: &Platform) -> String {
    let Some(route) = service.spec.routes.first() else {
        let host = platform.host(&service.name_any(), &service.namespace().unwrap_or_default());
        return format!("http://{host}");
    };
    let host = route.host.clone().unwrap_or_else(|| own_host(service, platform));
    let port = match platform.gateway.http_port {
        80 => String::new(),
        other => format!(":{other}"),
    };
    format!("http://{host}{port}{}", route.path)
}

/// Host name of routes that name none.
pub fn own_host(service: &MedicalService, platform: &Platform) -> String {
    let namespace = service.namespace().unwrap_or_default();
    format!("{}.{}.{}", service.name_any(), hospital_of(&namespace), platform.domain)
}
