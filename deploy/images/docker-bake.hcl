# The images of Dockerfile, for `docker buildx bake`; variables come from the environment, which `build` sets.
variable "REGISTRY" { default = "registry.example.com/meshmeter" }
variable "VERSION" { default = "0.1.0" }
variable "SOURCE_DATE_EPOCH" { default = "0" }

group "default" {
  targets = ["aggregator", "mesh", "filter"]
}

target "all" {
  dockerfile = "deploy/images/Dockerfile"
  platforms  = ["linux/amd64", "linux/arm64"]
  args       = { SOURCE_DATE_EPOCH = SOURCE_DATE_EPOCH }
  attest     = ["type=provenance,mode=max", "type=sbom"]
}

target "aggregator" {
  inherits = ["all"]
  target   = "aggregator"
  tags     = ["${REGISTRY}/aggregator:${VERSION}"]
}

target "mesh" {
  inherits = ["all"]
  target   = "mesh"
  tags     = ["${REGISTRY}/mesh:${VERSION}"]
}

target "filter" {
  inherits = ["all"]
  target   = "filter"
  tags     = ["${REGISTRY}/filter:${VERSION}"]
}
