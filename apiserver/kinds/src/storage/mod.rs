//! Kinds of `storage.k8s.io`.

mod csi;
mod storage_class;
mod volume_attachment;
mod volume_attributes_class;

pub use csi::{CSIDriver, CSINode, CSIStorageCapacity};
pub use storage_class::StorageClass;
pub use volume_attachment::VolumeAttachment;
pub use volume_attributes_class::VolumeAttributesClass;
