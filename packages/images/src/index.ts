export { type BuildImagesDeps, type BuildImagesOptions, buildImages } from './build-images.ts';
export { type CpioEntry, cpioArchive } from './cpio.ts';
export {
  type HostPackage,
  hostPackages,
  type InstallOptions,
  installHostPackages,
  missingHostPackages,
  type PackagePurpose,
} from './host-packages.ts';
export { type ImageSet, loadImages } from './image-set.ts';
export { collectModules, modulesDep } from './kernel-modules.ts';
export { type ImageProgress, type ImageStep, imageSteps } from './progress.ts';
