// Package manifests checks Kubernetes manifests without a cluster: every field must
// be known and of the right type, and no key may be given twice.
package manifests

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	serializer "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	builtin "k8s.io/client-go/kubernetes/scheme"
	strict "sigs.k8s.io/yaml"
)

// Command reads the named files, or standard input, and fails when an object is wrong.
func Command() *cobra.Command {
	var skip []string
	command := &cobra.Command{
		Use:           "manifest-check [FILE…]",
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(_ *cobra.Command, files []string) error {
			check := checker{skip: map[string]bool{}}
			for _, kind := range skip {
				check.skip[kind] = true
			}
			if len(files) == 0 {
				check.read("standard input", os.Stdin)
			}
			for _, name := range files {
				file, err := os.Open(name)
				if err != nil {
					return err
				}
				check.read(name, file)
				file.Close()
			}
			fmt.Printf("%d objects: %d valid, %d invalid, %d skipped\n", check.valid+check.invalid+check.skipped, check.valid, check.invalid, check.skipped)
			if check.invalid > 0 || check.valid+check.skipped == 0 {
				return errors.New("manifests are not valid")
			}
			return nil
		},
	}
	command.Flags().StringSliceVar(&skip, "skip", nil, "kinds that are not checked, for custom resources")
	return command
}

type checker struct {
	skip                    map[string]bool
	valid, invalid, skipped int
}

func (c *checker) read(name string, in io.Reader) {
	scheme := runtime.NewScheme()
	if err := errors.Join(builtin.AddToScheme(scheme), apiextensions.AddToScheme(scheme)); err != nil {
		panic(err) // both are compiled in
	}
	decoder := serializer.NewSerializerWithOptions(serializer.DefaultMetaFactory, scheme, scheme, serializer.SerializerOptions{Yaml: true, Strict: true})
	documents := yaml.NewYAMLReader(bufio.NewReader(in))
	for number := 1; ; number++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			c.fail(name, number, err)
			return
		}
		object := unstructured.Unstructured{}
		if err := strict.UnmarshalStrict(document, &object.Object); err != nil {
			c.fail(name, number, err)
			continue
		}
		switch {
		case len(object.Object) == 0: // nothing but comments
		case c.skip[object.GetKind()]:
			c.skipped++
		default:
			if _, _, err := decoder.Decode(document, nil, nil); err != nil {
				c.fail(fmt.Sprintf("%s: %s %s", name, object.GetKind(), object.GetName()), number, err)
			} else if object.GetName() == "" && object.GetGenerateName() == "" {
				c.fail(name, number, errors.New("object without a name"))
			} else {
				c.valid++
			}
		}
	}
}

func (c *checker) fail(where string, number int, err error) {
	c.invalid++
	fmt.Fprintf(os.Stderr, "%s: document %d: %v\n", where, number, err)
}
