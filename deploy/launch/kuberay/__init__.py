"""Jobs of Kubernetes, by KubeRay 1.7: a RayJob with a cluster of its own, or several on one standing RayCluster."""
