package rundir

import "golang.org/x/sys/unix"

// remote are file systems whose answers come from elsewhere: another machine, or a process. statfs(2).
var remote = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "CIFS", unix.SMB2_SUPER_MAGIC: "SMB",
	unix.FUSE_SUPER_MAGIC: "FUSE", unix.V9FS_MAGIC: "9P", unix.CEPH_SUPER_MAGIC: "Ceph", unix.AFS_SUPER_MAGIC: "AFS",
	unix.AFS_FS_MAGIC: "AFS", unix.CODA_SUPER_MAGIC: "Coda", unix.OCFS2_SUPER_MAGIC: "OCFS2",
}

// Remote names the kind of the file system that the directory is on, if it may make its users wait; otherwise it
// returns "".
func (d *Dir) Remote() string {
	var fs unix.Statfs_t
	if unix.Fstatfs(d.fd, &fs) != nil {
		return ""
	}
	return remote[fs.Type]
}
