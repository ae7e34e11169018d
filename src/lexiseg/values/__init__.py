"""Values that flow through lexiseg: geometry, scans, planes, prompts, masks and saliency; numpy alone."""
