process SEGMENT {
    tag "${meta.id}"
    label 'network'
    label 'gpu'

    input:
    tuple val(meta), path(tomogram, stageAs: 'tomogram/*')     // meta.simulated; meta.voxel_size_angstrom where the header's does not hold
    path model, stageAs: 'model.keras'
    val settings

    output:
    tuple val(meta), path("segment/${meta.id}.segmentation.mrc"), path("segment/${meta.id}.log_odds.mrc"), path("segment/${meta.id}.segmentation.mrc.json"), emit: segmentation, topic: published
    path "segment/${meta.id}.probabilities.mrc.gz", optional: true, topic: published     // with segment.keep_probabilities

    script:
    def size = meta.voxel_size_angstrom ? "--voxel-size-angstrom ${meta.voxel_size_angstrom}" : ''
    def ours = meta.simulated ? '--simulated' : ''
    """
    cat > settings.json <<'SETTINGS'
    ${settings}
    SETTINGS
    template-learning segment --model model.keras --tomogram ${tomogram} --id ${meta.id} --settings settings.json ${size} ${ours} --output segment
    """

    stub:
    """
    mkdir segment
    touch segment/${meta.id}.segmentation.mrc segment/${meta.id}.log_odds.mrc segment/${meta.id}.segmentation.mrc.json
    """
}
