// The conformance suite of the driver, with KVM: the same harness, on the lab's machine.
import './qemu-vmm.vm.test.ts';
