// Package volumes gives each claim a folder of the node that its pod was placed on.
//
// All nodes are folders of one machine, so the provisioner makes the folder itself.
// Volumes are of kind `local`: as with a cloud's disks the folder is root's, and the
// pod's fsGroup gives it to the pod; a pod without one cannot write to it.
package volumes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

const (
	provisioner  = "multiraft.local/folder"
	selectedNode = "volume.kubernetes.io/selected-node"
	// A failed step is tried again after this time, and nothing is watched for disk changes.
	repeat = 3 * time.Second
)

// Command runs the provisioner until it is killed.
func Command() *cobra.Command {
	var kubeconfig, root string
	command := &cobra.Command{
		Use: "local-volumes",
		RunE: func(command *cobra.Command, _ []string) error {
			config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			client, err := kubernetes.NewForConfig(config)
			if err != nil {
				return err
			}
			return run(command.Context(), client, root)
		},
	}
	command.Flags().StringVar(&kubeconfig, "kubeconfig", "", "how to reach the API server")
	command.Flags().StringVar(&root, "root", "", "volumes of node N are folders of ROOT/N/volumes")
	return command
}

type pass struct {
	client kubernetes.Interface
	root   string
	claims []*core.PersistentVolumeClaim
	// Volumes by name.
	volumes map[string]*core.PersistentVolume
	classes map[string]*storage.StorageClass
}

func run(ctx context.Context, client kubernetes.Interface, root string) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	claims := factory.Core().V1().PersistentVolumeClaims()
	volumes := factory.Core().V1().PersistentVolumes()
	classes := factory.Storage().V1().StorageClasses()

	changed := make(chan struct{}, 1)
	wake := func(any) {
		select {
		case changed <- struct{}{}:
		default: // a pass is due already
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: wake, DeleteFunc: wake, UpdateFunc: func(_, now any) { wake(now) }}
	for _, informer := range []cache.SharedIndexInformer{claims.Informer(), volumes.Informer(), classes.Informer()} {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return err
		}
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(repeat):
		}
		p := pass{client: client, root: root, volumes: map[string]*core.PersistentVolume{}, classes: map[string]*storage.StorageClass{}}
		p.claims = stored[core.PersistentVolumeClaim](claims.Informer())
		for _, volume := range stored[core.PersistentVolume](volumes.Informer()) {
			p.volumes[volume.Name] = volume
		}
		for _, class := range stored[storage.StorageClass](classes.Informer()) {
			p.classes[class.Name] = class
		}
		p.run(ctx)
	}
}

func stored[T any](informer cache.SharedIndexInformer) []*T {
	var all []*T
	for _, object := range informer.GetStore().List() {
		all = append(all, object.(*T))
	}
	return all
}

func (p *pass) run(ctx context.Context) {
	report := func(act, name string, err error) {
		if err != nil && !errors.IsConflict(err) && !errors.IsNotFound(err) && !errors.IsAlreadyExists(err) {
			klog.ErrorS(err, act, "name", name)
		}
	}
	for _, claim := range p.claims {
		if claim.DeletionTimestamp != nil {
			continue
		}
		if claim.Spec.VolumeName == "" {
			report("provision", claim.Name, p.provision(ctx, claim))
		} else {
			report("expand", claim.Name, p.expand(ctx, claim))
		}
	}
	for _, volume := range p.volumes {
		report("remove", volume.Name, p.remove(ctx, volume))
	}
}

// Makes the volume that a waiting claim asks for, when the scheduler has chosen its node.
func (p *pass) provision(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	if claim.Spec.StorageClassName == nil {
		return nil
	}
	class, node := p.classes[*claim.Spec.StorageClassName], claim.Annotations[selectedNode]
	name := "pvc-" + string(claim.UID)
	if class == nil || class.Provisioner != provisioner || node == "" || p.volumes[name] != nil {
		return nil
	}
	folder := filepath.Join(p.root, node, "volumes", name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	policy := core.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	mode := core.PersistentVolumeFilesystem
	_, err := p.client.CoreV1().PersistentVolumes().Create(ctx, &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}},
		Spec: core.PersistentVolumeSpec{
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			AccessModes:                   claim.Spec.AccessModes,
			VolumeMode:                    &mode,
			Capacity:                      core.ResourceList{core.ResourceStorage: claim.Spec.Resources.Requests[core.ResourceStorage]},
			PersistentVolumeSource:        core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: folder}},
			ClaimRef: &core.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim", UID: claim.UID,
				Namespace: claim.Namespace, Name: claim.Name, ResourceVersion: claim.ResourceVersion,
			},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}, meta.CreateOptions{})
	return err
}

// Grants a larger size: a folder has no size, so only the records change.
func (p *pass) expand(ctx context.Context, claim *core.PersistentVolumeClaim) error {
	volume := p.volumes[claim.Spec.VolumeName]
	asked, granted := claim.Spec.Resources.Requests[core.ResourceStorage], claim.Status.Capacity[core.ResourceStorage]
	if claim.Status.Phase != core.ClaimBound || !p.owns(volume) || asked.Cmp(granted) <= 0 {
		return nil
	}
	if capacity := volume.Spec.Capacity[core.ResourceStorage]; asked.Cmp(capacity) > 0 {
		larger := volume.DeepCopy()
		larger.Spec.Capacity[core.ResourceStorage] = asked
		if _, err := p.client.CoreV1().PersistentVolumes().Update(ctx, larger, meta.UpdateOptions{}); err != nil {
			return err
		}
	}
	larger := claim.DeepCopy()
	larger.Status.Capacity[core.ResourceStorage] = asked
	_, err := p.client.CoreV1().PersistentVolumeClaims(claim.Namespace).UpdateStatus(ctx, larger, meta.UpdateOptions{})
	return err
}

// Deletes the folder and the record of a volume whose claim is gone.
func (p *pass) remove(ctx context.Context, volume *core.PersistentVolume) error {
	if !p.owns(volume) || volume.Status.Phase != core.VolumeReleased || volume.DeletionTimestamp != nil ||
		volume.Spec.PersistentVolumeReclaimPolicy != core.PersistentVolumeReclaimDelete {
		return nil
	}
	inside, err := filepath.Match(filepath.Join(p.root, "*", "volumes", volume.Name), volume.Spec.Local.Path)
	if err != nil || !inside {
		return fmt.Errorf("folder %s of volume %s is not one of ours", volume.Spec.Local.Path, volume.Name)
	}
	if err := os.RemoveAll(volume.Spec.Local.Path); err != nil {
		return err
	}
	return p.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, meta.DeleteOptions{})
}

func (p *pass) owns(volume *core.PersistentVolume) bool {
	return volume != nil && volume.Spec.Local != nil && volume.Annotations["pv.kubernetes.io/provisioned-by"] == provisioner
}
