package manifest

import (
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The kinds of others, with the fields that weir's manifests use: their own modules are large, and need a newer Go or all
// of a controller. What has another field is refused, so a new one is looked up first, and then added here.

// ScaledObject is KEDA's, of keda.sh/v1alpha1.
type ScaledObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              ScaledObjectSpec `json:"spec"`
}

// ScaledObjectSpec says what is scaled by what.
type ScaledObjectSpec struct {
	ScaleTargetRef  autoscalingv2.CrossVersionObjectReference `json:"scaleTargetRef"`
	PollingInterval int32                                     `json:"pollingInterval"`
	MinReplicaCount int32                                     `json:"minReplicaCount"`
	MaxReplicaCount int32                                     `json:"maxReplicaCount"`
	Advanced        struct {
		HorizontalPodAutoscalerConfig struct {
			Behavior *autoscalingv2.HorizontalPodAutoscalerBehavior `json:"behavior"`
		} `json:"horizontalPodAutoscalerConfig"`
	} `json:"advanced"`
	// Fallback is what holds while the triggers cannot be asked.
	Fallback *struct {
		FailureThreshold int32  `json:"failureThreshold"`
		Replicas         int32  `json:"replicas"`
		Behavior         string `json:"behavior"` // static, currentReplicas, currentReplicasIfHigher, currentReplicasIfLower
	} `json:"fallback"`
	Triggers []Trigger `json:"triggers"`
}

// Trigger is where a ScaledObject has a figure from.
type Trigger struct {
	Type              string                         `json:"type"`
	MetricType        autoscalingv2.MetricTargetType `json:"metricType"`
	Metadata          map[string]string              `json:"metadata"`
	AuthenticationRef *struct {
		Name string `json:"name"`
	} `json:"authenticationRef"`
}

// TriggerAuthentication is KEDA's, of keda.sh/v1alpha1.
type TriggerAuthentication struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		SecretTargetRef []struct {
			Parameter string `json:"parameter"`
			Name      string `json:"name"`
			Key       string `json:"key"`
		} `json:"secretTargetRef"`
	} `json:"spec"`
}

// ServiceMonitor is the Prometheus operator's, of monitoring.coreos.com/v1.
type ServiceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		JobLabel  string               `json:"jobLabel"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []Scrape             `json:"endpoints"`
	} `json:"spec"`
}

// PodMonitor is the Prometheus operator's, of monitoring.coreos.com/v1.
type PodMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		PodTargetLabels     []string             `json:"podTargetLabels"`
		Selector            metav1.LabelSelector `json:"selector"`
		PodMetricsEndpoints []Scrape             `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

// Scrape is a port that is scraped.
type Scrape struct {
	Port          string `json:"port"`
	Path          string `json:"path"`
	Interval      string `json:"interval"`
	HonorLabels   bool   `json:"honorLabels"`
	Authorization *struct {
		Type        string                    `json:"type"`
		Credentials *corev1.SecretKeySelector `json:"credentials"`
	} `json:"authorization"`
	Relabelings []struct {
		TargetLabel string `json:"targetLabel"`
		Replacement string `json:"replacement"`
	} `json:"relabelings"`
}
