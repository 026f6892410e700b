// The images of a run: whether each SIF is the one that its record knows.

def sha256(path) {
    def digest = java.security.MessageDigest.getInstance('SHA-256')
    path.withInputStream { stream ->
        def buffer = new byte[1 << 20]
        def count = stream.read(buffer)
        while (count > 0) {
            digest.update(buffer, 0, count)
            count = stream.read(buffer)
        }
    }
    return digest.digest().encodeHex().toString()
}

// Path -> SHA-256 of every SIF that a process of this run takes; the run ends with one line where a record says otherwise.
// Records: containers/images.json of a release, else images.json beside the SIFs.
def verified_images(containers, folder, verify) {
    def used = containers instanceof Map ? containers.values() : [containers]
    def wanted = used.findAll { one -> one?.toString()?.endsWith('.sif') }.unique().sort()
    if (wanted && !folder.toString().startsWith('/')) {
        error("parameter image_folder = '${folder}': an absolute path was expected")
    }
    def released = new groovy.json.JsonSlurper().parse(file("${projectDir}/containers/images.json"))
    def record = file("${folder}/images.json")
    def built = wanted && record.exists() ? new groovy.json.JsonSlurper().parse(record) : [:]
    return wanted.findAll { path -> file(path).exists() }.collectEntries { path ->
        def found = verify ? sha256(file(path)) : ''
        def image = file(path).baseName.replaceFirst(/-[0-9][^-]*$/, '')
        def expected = released[image]?.sif_sha256 ?: built[image]?.sif_sha256
        if (verify && expected == null) {
            error("${path}: no record knows this image's SHA-256; ${record} was expected to (or --verify_images false)")
        }
        if (verify && found != expected) {
            error("${path}: SHA-256 ${found}, but ${expected} was expected; the image was changed, build or fetch it again")
        }
        [path, found]
    }
}
